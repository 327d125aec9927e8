//! Simplified or traditional Chinese, by common characters that only one of them writes.

use std::sync::LazyLock;

/// Characters of the 1956–64 simplification, each at the place of its traditional form below.
const SIMPLIFIED: &str = "\
    这们个国来时说会为对学过发还没见进开关长问间门车马东书电无经现实与两从将应动体点业产种当样论\
    爱边变众传带单党导灯敌断队儿尔飞风复刚给贵归汉号华欢坏换机级极济记际价讲阶节结紧尽旧举剧军觉\
    课块劳乐离历丽联粮临灵龙卢陆乱罗妈买卖满难鸟宁农欧齐气钱强亲轻庆穷权确热认荣声胜圣师识势适术\
    树双岁孙态谈题条铁听头图团万网卫温务习戏县乡响写谢兴选压阳养药叶义艺阴银营优鱼语员远愿云运杂\
    则战张阵证织执纸质钟专转装总组续灾处观园";
const TRADITIONAL: &str = "\
    這們個國來時說會為對學過發還沒見進開關長問間門車馬東書電無經現實與兩從將應動體點業產種當樣論\
    愛邊變眾傳帶單黨導燈敵斷隊兒爾飛風復剛給貴歸漢號華歡壞換機級極濟記際價講階節結緊盡舊舉劇軍覺\
    課塊勞樂離歷麗聯糧臨靈龍盧陸亂羅媽買賣滿難鳥寧農歐齊氣錢強親輕慶窮權確熱認榮聲勝聖師識勢適術\
    樹雙歲孫態談題條鐵聽頭圖團萬網衛溫務習戲縣鄉響寫謝興選壓陽養藥葉義藝陰銀營優魚語員遠願雲運雜\
    則戰張陣證織執紙質鐘專轉裝總組續災處觀園";

/// One bit a character of U+4E00–U+9FFF.
type Set = Vec<u64>;

static SETS: LazyLock<[Set; 2]> = LazyLock::new(|| {
    [SIMPLIFIED, TRADITIONAL].map(|characters| {
        let mut set = vec![0; 0x5200 / 64];
        for at in characters.chars().map(|c| c as usize - 0x4e00) {
            set[at / 64] |= 1 << (at % 64);
        }
        set
    })
});

/// `Hans` or `Hant` (ISO 15924), whichever has more of its own characters, and its share of them.
pub fn script(text: &str) -> (Option<&'static str>, f32) {
    let (hans, hant) = counts(text);
    let share = hans.max(hant) as f32 / (hans + hant).max(1) as f32;
    match hans.cmp(&hant) {
        std::cmp::Ordering::Greater => (Some("Hans"), share),
        std::cmp::Ordering::Less => (Some("Hant"), share),
        std::cmp::Ordering::Equal => (None, 0.0),
    }
}

/// Characters that say which script it is, less those that say the opposite.
pub fn telling(text: &str) -> usize {
    let (hans, hant) = counts(text);
    hans.abs_diff(hant)
}

fn counts(text: &str) -> (usize, usize) {
    let [simplified, traditional] = &*SETS;
    let (mut hans, mut hant) = (0, 0);
    for character in text.chars().filter(|c| ('\u{4e00}'..='\u{9fff}').contains(c)) {
        let at = character as usize - 0x4e00;
        hans += usize::from(simplified[at / 64] >> (at % 64) & 1 == 1);
        hant += usize::from(traditional[at / 64] >> (at % 64) & 1 == 1);
    }
    (hans, hant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_is_in_both() {
        assert_eq!(SIMPLIFIED.chars().count(), TRADITIONAL.chars().count());
        assert!(SETS[0].iter().zip(&SETS[1]).all(|(a, b)| a & b == 0));
    }

    #[test]
    fn scripts() {
        assert_eq!(script("我们说汉语").0, Some("Hans"));
        assert_eq!(script("我們說漢語").0, Some("Hant"));
        assert_eq!(script("山水").0, None);
    }
}
