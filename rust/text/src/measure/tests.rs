use super::*;

fn value(text: &str, metric: Metric) -> f64 {
    Measurer::default().measure(text, Some("en")).get(metric)
}

#[test]
fn empty_and_symbol_texts_are_finite() {
    for text in ["", "\n\n", "!!! ???", "\u{200b}", "\0", " "] {
        let metrics = Measurer::default().measure(text, Some("en"));
        assert!(metrics.values().iter().all(|value| value.is_finite()), "{text:?}");
    }
}

#[test]
fn sentences_in_any_script() {
    let zh = "今天下雨。我们在家。你呢？好的！他来了。我们走。";
    assert_eq!(value(zh, Metric::Sentences), 6.0);
    assert_eq!(value("Pi is 3.14 in v1.2. Yes!\nNo \"really?\"", Metric::Sentences), 3.0);
    assert_eq!(value("no end\n\nno end either", Metric::Sentences), 2.0);
    assert_eq!(value("Wait... What?!", Metric::Sentences), 2.0);
}

#[test]
fn blank_lines_are_no_duplicates() {
    let text: String = (0..10).map(|i| format!("Sentence number {i}.\n\n\n\n")).collect();
    assert_eq!(value(&text, Metric::DuplicateLineShare), 0.0);
    assert_eq!(value(&text, Metric::DuplicateParagraphShare), 0.0);
    assert_eq!(value("a\na\nb\na\n", Metric::DuplicateLineShare), 0.5);
}

#[test]
fn bullets() {
    for mark in ["- ", "* ", "• ", "‣ ", "  - "] {
        let text = format!("{mark}item\n").repeat(20);
        assert_eq!(value(&text, Metric::BulletLineShare), 1.0, "{mark}");
    }
    assert_eq!(value("-5 degrees at night", Metric::BulletLineShare), 0.0);
}

#[test]
fn words_and_stop_words() {
    let text = "The cat and the dog, 2 of them -- sleep";
    assert_eq!(value(text, Metric::Words), 9.0);
    assert_eq!(value(text, Metric::SymbolWords), 1.0);
    assert_eq!(value(text, Metric::StopWords), 3.0);
    assert_eq!(value("中文文本", Metric::Words), 4.0);
    assert!(!Measurer::default().measure(text, None).has_stop_words);
}

#[test]
fn compression_only_where_asked() {
    let text = "the same words ".repeat(200);
    assert_eq!(value(&text, Metric::CompressionRatio), 0.0);
    let mut measurer = Measurer::default();
    measurer.set_compression(true);
    let mut ratio = |text: &str| measurer.measure(text, None).get(Metric::CompressionRatio);
    assert!(ratio(&text) < 0.05);
    assert!(ratio("k3 vq 9z xw 0j") >= 1.0);
    assert_eq!(ratio(""), 0.0);
}

#[test]
fn markup_and_newlines() {
    assert_eq!(value("a <b>x</b> &amp; 1 < 2", Metric::MarkupShare), 12.0 / 22.0);
    assert_eq!(value("a\n\n\n\nb\n", Metric::LongestNewlineRun), 4.0);
    assert_eq!(value("x:", Metric::EndsWithColon), 1.0);
}
