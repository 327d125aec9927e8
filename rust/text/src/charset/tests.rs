use encoding_rs::{EUC_KR, GBK, SHIFT_JIS, UTF_8};

use super::prescan::declared_in_head;
use super::{Evidence, decode};

fn name(bytes: &[u8], http: Option<&str>) -> String {
    decode(bytes, http, true).encoding
}

fn gbk(text: &str) -> Vec<u8> {
    GBK.encode(text).0.into_owned()
}

#[test]
fn one_bad_byte_costs_one_character_whatever_the_length_of_the_page() {
    for repeat in [1, 10, 1000] {
        let mut page = b"<meta charset=gb2312><p>".to_vec();
        page.extend(gbk(&"\u{4eca}\u{5929}\u{5929}\u{6c14}\u{5f88}\u{597d}".repeat(repeat)));
        page.push(0xff);
        page.extend(b"</p>");
        let read = decode(&page, None, true);
        assert_eq!((read.encoding.as_str(), read.replaced), ("gb18030", 1));
        assert_eq!(read.evidence, Evidence::Meta);
        assert_eq!(read.text.matches('\u{fffd}').count(), 1);
    }
}

#[test]
fn many_bad_bytes_do_not_unseat_a_label_that_the_rest_confirms() {
    let mut page = b"<meta charset=gbk>".to_vec();
    for _ in 0..20 {
        page.extend(gbk("\u{79bb}\u{6563}\u{4f59}\u{5f26}\u{53d8}\u{6362}\u{7684}\u{5934}\u{6587}\u{4ef6}\u{5728}\u{8fd9}\u{91cc}\u{5b9a}\u{4e49}"));
        page.push(0xff);
    }
    let read = decode(&page, None, true);
    assert_eq!((read.encoding.as_str(), read.replaced), ("gb18030", 20));
}

#[test]
fn a_lie_is_seen_through() {
    let korean = EUC_KR.encode("\u{c11c}\u{c6b8}\u{c2dc}\u{b294} \u{c624}\u{b298} \u{c0c8}\u{b85c}\u{c6b4} \u{c815}\u{cc45}\u{c744} \u{bc1c}\u{d45c}\u{d588}\u{b2e4}.").0;
    assert_eq!(name(&korean, Some("utf-8")), "euc-kr");
    let japanese = SHIFT_JIS.encode("\u{6771}\u{4eac}\u{306e}\u{5929}\u{6c17}\u{306f}\u{6674}\u{308c}\u{3067}\u{3059}\u{3002}").0;
    assert_eq!(name(&japanese, Some("utf-8")), "shift_jis");
    let utf8 = "na\u{ef}ve caf\u{e9} \u{2014} \u{fc}ber".as_bytes();
    assert_eq!(name(utf8, Some("iso-8859-1")), "utf-8");
    assert_eq!(name("\u{4eca}\u{5929}\u{5f88}\u{597d}".as_bytes(), Some("gbk")), "utf-8");
    assert_eq!(name(b"caf\xe9", Some("utf-8")), "windows-1252");
}

#[test]
fn pages_name_their_encoding_in_many_ways() {
    let named = |page: &str| declared_in_head(page.as_bytes()).map(|encoding| encoding.name());
    for page in [
        "<meta charset=gbk>",
        "<META CharSet = 'GBK' />",
        "<!doctype html><html lang=zh><meta\nname=x content=y charset=gbk>",
        "<meta http-equiv=Content-Type content='text/html; charset=gb2312'>",
        "<meta content=\"text/html;charset = 'gbk'\" http-equiv=\"content-type\">",
        "<!-- <meta charset=utf-8> --><meta charset=gbk>",
        "<a title='<meta charset=utf-8>'><meta charset=gbk>",
        "<meta charset=no-such-name><meta charset=gbk>",
        "<?xml version='1.0' encoding='gbk'?><html>",
    ] {
        assert_eq!(named(page), Some("GBK"), "{page}");
    }
    assert_eq!(named("<meta charset=utf-16le>"), Some(UTF_8.name()));
    for page in [
        "",
        "<",
        "<meta",
        "<meta charset",
        "<meta charset=",
        "<meta charset='gbk",
        "<!--",
        "<metal charset=gbk>",
        "<meta content='charset=gbk'>",
        "<?xml encoding",
    ] {
        let found = named(page);
        assert!(found.is_none() || page == "<meta charset='gbk", "{page}: {found:?}");
    }
}
