use super::*;

fn keys() -> Keys {
    Keys::new(&mut 1)
}

fn cut(text: &str, code: bool, fold: bool) -> Vec<u64> {
    let (mut cursor, mut units) = (Cursor { composed: true, ..Cursor::default() }, Vec::new());
    let mut cutter = Cutter::new(keys(), fold);
    let mut all = Vec::new();
    loop {
        let progress = cutter.cut(text, code, &mut cursor, &mut units);
        all.append(&mut units);
        if progress == Progress::End {
            return all;
        }
    }
}

/// Slow twin: the units of a text as strings, written from the definition.
fn spelled(text: &str, code: bool, fold: bool) -> Vec<Vec<u8>> {
    let classes = Classes::get();
    let (mut units, mut word) = (Vec::new(), Vec::new());
    let (mut starts, mut in_word) = (Vec::new(), false);
    for (at, c) in text.char_indices() {
        let symbol = code && c.is_ascii_punctuation() && c != '_';
        let class = if code && c == '_' { Class::Word } else { classes.class(c).0 };
        let shown = (class == Class::Word && !in_word) || class == Class::Single;
        in_word = class == Class::Word || (class == Class::Ignored && in_word);
        if shown {
            starts.push(at);
        }
        match class {
            Class::Word if !fold => push(c, &mut word),
            Class::Word if c.is_ascii() => word.push(c as u8 | 0x20),
            Class::Word => classes.push_folded(c, &mut word),
            Class::Ignored if !fold && !word.is_empty() => push(c, &mut word),
            Class::Ignored => {}
            Class::Gap | Class::Single => {
                units.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
                if symbol || class == Class::Single {
                    units.push(c.to_string().into_bytes());
                }
            }
        }
    }
    units.extend((!word.is_empty()).then_some(word));
    if !fold && !code {
        if let Some(first) = starts.first_mut() {
            *first = 0;
        }
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        return starts.iter().zip(ends).map(|(&s, e)| text.as_bytes()[s..e].to_vec()).collect();
    }
    units
}

fn split_mix_texts(count: usize) -> Vec<String> {
    // Pieces that meet in every way: long and short words, scripts, symbols, ignorables.
    let pieces = [
        "a",
        "Tide",
        "x1",
        "_",
        "snake_case",
        "incomprehensibilities",
        " ",
        "  ",
        "\n\t",
        ".",
        "(){}",
        "é",
        "Ёлка",
        "naïve",
        "今",
        "天下",
        "\u{4DC0}",
        "か",
        "ไทย",
        "한",
        "\u{AD}",
        "\u{200D}",
        "\u{FE0F}",
        "，",
        "“",
        "💧",
        "\0",
        "ＡＢ１",
        "١٢",
        "हिन्दी",
        "𠀀",
        "\u{200B}",
        "İ",
        "0123456789abcdef",
    ];
    let mut state = 99;
    let mut next = |below: usize| (crate::hash::split_mix(&mut state) % below as u64) as usize;
    (0..count)
        .map(|_| (0..next(60)).map(|_| pieces[next(pieces.len())]).collect::<String>())
        .collect()
}

#[test]
fn blocks_and_slow_twin_agree() {
    let mut texts = split_mix_texts(3_000);
    texts.push("the quick brown fox jumps over the lazy dog, ".repeat(200));
    texts.push("x".repeat(1_000) + " " + &"y_".repeat(500) + "é" + &"z".repeat(77));
    for text in &texts {
        for (code, fold) in [(false, true), (false, false), (true, true), (true, false)] {
            let want: Vec<u64> =
                spelled(text, code, fold).iter().map(|unit| keys().bytes(unit)).collect();
            assert_eq!(cut(text, code, fold), want, "{text:?} code {code} fold {fold}");
        }
    }
}

#[test]
fn without_vector_instructions_too() {
    for text in split_mix_texts(300) {
        for (code, fold) in [(false, true), (false, false), (true, true)] {
            let (mut cursor, mut units) =
                (Cursor { composed: true, ..Cursor::default() }, Vec::new());
            Cutter::new(keys(), fold).cut_any(&text, code, &mut cursor, &mut units);
            assert_eq!(units, cut(&text, code, fold));
        }
    }
}

#[test]
fn words_and_characters() {
    let count = |text, code| cut(text, code, true).len();
    assert_eq!(count("The red kite, 3 times!", false), 5);
    assert_eq!(count("今天下雨。", false), 4);
    assert_eq!(count("用Python写code", false), 4);
    assert_eq!(count("สวัสดี", false), 6);
    assert_eq!(count("Сегодня дождь", false), 2);
    assert_eq!(count("हिन्दी भाषा", false), 2);
    assert_eq!(count("!!! --- …", false), 0);
    assert_eq!(count("def f_1(x):\n\treturn x+1", true), 10);
}

#[test]
fn folding() {
    let fold = |text| cut(text, false, true);
    assert_eq!(fold("Red KITE"), fold("red, kite"));
    assert_eq!(fold("ÉCOLE ΟΔΟΣ"), fold("école οδος"));
    assert_eq!(fold("ＡＢＣ１２３"), fold("abc123"));
    assert_eq!(fold("soft\u{AD}ly"), fold("softly"));
    assert_ne!(fold("ab c"), fold("a bc"));
    assert_ne!(cut("a[1]", true, true), cut("a{1}", true, true));
}

#[test]
fn without_folding_every_byte_counts() {
    let texts =
        ["Zoë drank", "Zoe\u{308} drank", "zoë drank", "Zoë  drank", " Zoë drank", "Zoë drank."];
    let all: Vec<_> = texts.iter().map(|text| cut(text, false, false)).collect();
    for (i, one) in all.iter().enumerate() {
        assert_eq!(one.len(), 2);
        assert!(all[..i].iter().all(|other| other != one), "{:?}", texts[i]);
    }
    assert!(cut("... ", false, false).is_empty());
}

#[test]
fn code_ignores_layout() {
    assert_eq!(cut("if x:\n  y = 1", true, false), cut("if x:\n\ty=1", true, false));
    assert_ne!(cut("X", true, false), cut("x", true, false));
    assert_eq!(cut("Foo_Bar", true, true), cut("foo_bar", true, true));
}
