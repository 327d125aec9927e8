use super::*;
use crate::{Clusters, Shingler, Verify, jaccard};

fn run(texts: &[&str], settings: &Settings) -> Outcome {
    let texts: Vec<_> = texts.iter().map(|&text| Some(text)).collect();
    let rank: Vec<u32> = (0..texts.len() as u32).collect();
    deduplicate(&Corpus { texts: &texts, code: &[], rank: &rank }, settings).unwrap()
}

fn as_strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

fn kept(outcome: &Outcome) -> Vec<usize> {
    (0..outcome.keep.len()).filter(|&row| outcome.keep[row]).collect()
}

pub(crate) fn chain(length: usize) -> Vec<String> {
    let words = |i: usize| (5 * i..5 * i + 100).map(|w| format!("w{w}"));
    (0..length).map(|i| words(i).collect::<Vec<_>>().join(" ")).collect()
}

/// Texts with words in common: a few templates, filled and edited at random.
pub(crate) fn alike(count: usize, seed: u64) -> Vec<String> {
    let mut state = seed;
    let mut next = |below: u64| crate::hash::split_mix(&mut state) % below;
    (0..count)
        .map(|_| {
            let (template, edits) = (next(4), next(6));
            let mut words: Vec<String> =
                (0..60 + next(6)).map(|i| format!("t{template}w{i}")).collect();
            for _ in 0..edits {
                let place = next(words.len() as u64) as usize;
                words[place] = format!("e{}", next(1 << 40));
            }
            words.join(" ")
        })
        .collect()
}

#[test]
fn short_and_empty_texts() {
    let texts = ["red kite", "blue heron", "red kite", "三只鸟", "", "", "!!!"];
    let outcome = run(&texts, &Settings::default());
    assert_eq!(outcome.keep, [true, true, false, true, true, true, true]);
    assert_eq!(outcome.duplicate_of[2], 0);
    assert_eq!(run(&[], &Settings::default()), Outcome::default());
}

#[test]
fn a_chain_is_not_one_cluster() {
    let texts = chain(20);
    let settings = Settings { threshold: 0.8, ..Settings::default() };
    assert_eq!(kept(&run(&as_strs(&texts), &settings)), [0, 3, 6, 9, 12, 15, 18]);
    let whole = Settings { clusters: Clusters::Components, ..settings };
    let outcome = run(&as_strs(&texts), &whole);
    assert_eq!(kept(&outcome), [0]);
    assert!(outcome.jaccard[19] < 0.01);
}

#[test]
fn a_long_chain_is_one_component() {
    let texts = chain(3_000);
    let settings =
        Settings { threshold: 0.88, clusters: Clusters::Components, ..Settings::default() };
    // Neighbours are similar at 0.90, and nothing else is.
    assert_eq!(kept(&run(&as_strs(&texts), &settings)), [0]);
    let greedy = Settings { clusters: Clusters::Greedy, ..settings };
    let kept = kept(&run(&as_strs(&texts), &greedy));
    assert_eq!(kept, (0..3_000).step_by(2).collect::<Vec<_>>());
}

#[test]
fn copies_cost_no_comparisons() {
    let texts = vec!["we use cookies to make this page better for you"; 30_000];
    let outcome = run(&texts, &Settings::default());
    assert_eq!(kept(&outcome), [0]);
    assert_eq!((outcome.effort.comparisons, outcome.effort.copies), (0, 29_999));
}

/// Near-copies and half-copies in one bucket: the work for each stays bounded.
#[test]
fn crowds_cost_linear_work() {
    let words: Vec<String> = (0..300).map(|i| format!("c{i}")).collect();
    let near = |i: usize| format!("{} number {i}", words.join(" "));
    let half = |i: usize| {
        let own: Vec<String> = (0..150).map(|w| format!("o{i}w{w}")).collect();
        format!("{} {}", words.join(" "), own.join(" "))
    };
    let settings = Settings { max_candidates: 20, ..Settings::default() };
    let effort = |count: usize, text: &dyn Fn(usize) -> String| {
        let texts: Vec<String> = (0..count).map(text).collect();
        run(&as_strs(&texts), &settings)
    };
    let outcome = effort(2_000, &near);
    assert_eq!(kept(&outcome).len(), 1);
    assert!(outcome.effort.comparisons <= 2_000 + 2_000 / 8);
    let outcome = effort(1_500, &half);
    assert_eq!(kept(&outcome).len(), 1_500);
    assert!(outcome.effort.comparisons <= 2 * 20 * 1_500);
    assert!(outcome.effort.cut_short > 1_000);
}

#[test]
fn promise_and_recall_by_brute_force() {
    // Several sizes of group, so that each way of deciding is taken.
    for (count, seed) in [(30, 1), (200, 2), (1_500, 3)] {
        let texts = alike(count, seed);
        let settings = Settings { max_candidates: 2_000, ..Settings::default() };
        let mut shingler = Shingler::new(&settings);
        let sets: Vec<_> = texts.iter().map(|text| shingler.set(text, false)).collect();
        let outcome = run(&as_strs(&texts), &settings);
        let (mut found, mut pairs) = (0, 0);
        for row in 0..count {
            if !outcome.keep[row] {
                let target = outcome.duplicate_of[row] as usize;
                let truth = jaccard(&sets[row], &sets[target]);
                assert!(outcome.keep[target] && truth >= settings.threshold);
                assert!((outcome.jaccard[row] - truth).abs() < 1e-12);
                // The first similar one that stays is named, if its bands meet.
                assert!(target < row);
            }
            for other in (0..row).filter(|&other| outcome.keep[other]) {
                if jaccard(&sets[row], &sets[other]) >= settings.threshold {
                    pairs += 1;
                    found += usize::from(!outcome.keep[row]);
                }
            }
        }
        assert!(pairs > count / 8, "{pairs}");
        assert!(found as f64 >= 0.99 * pairs as f64, "{found} of {pairs}");
        assert_eq!(outcome.effort.cut_short, 0);
    }
}

#[test]
fn rows_decide_between_equal_ranks() {
    for (rank, order) in [
        ([2, 0, 1], [1, 2, 0]),
        ([0, 0, 0], [0, 1, 2]),
        ([7, 1, 1], [1, 2, 0]),
        ([u32::MAX, 0, u32::MAX], [1, 0, 2]),
    ] {
        let corpus = Corpus { texts: &[None; 3], code: &[], rank: &rank };
        assert_eq!(corpus.order(), order);
    }
}

#[test]
fn ranks_and_threads_alone_decide() {
    let texts = alike(1_200, 5);
    let texts: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
    let count = texts.len();
    let mut state = 8;
    let mut rank: Vec<u32> = (0..count as u32).collect();
    rank.sort_by_cached_key(|_| crate::hash::split_mix(&mut state));
    for clusters in [Clusters::Greedy, Clusters::Components] {
        for verify in [Verify::Exact, Verify::Signature] {
            let settings = Settings { clusters, verify, max_candidates: 30, ..Settings::default() };
            let with = |texts: &[Option<&str>], rank: &[u32], threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let corpus = Corpus { texts, code: &[], rank };
                pool.install(|| deduplicate(&corpus, &settings)).unwrap()
            };
            let want = with(&texts, &rank, 1);
            assert_eq!(with(&texts, &rank, 4), want);
            assert!(want.keep.contains(&false));
            let (mut backwards, mut ranks) = (texts.clone(), rank.clone());
            backwards.reverse();
            ranks.reverse();
            let mut got = with(&backwards, &ranks, 2);
            got.keep.reverse();
            got.jaccard.reverse();
            got.duplicate_of.reverse();
            let row = |other: &u32| count as u32 - 1 - other;
            assert_eq!((&got.keep, &got.jaccard), (&want.keep, &want.jaccard));
            assert!(got.duplicate_of.iter().map(row).eq(want.duplicate_of.iter().copied()));
        }
    }
}

#[test]
fn code_row_by_row() {
    let one = "if x:\n    y = f(x, 1)\n    z = g(y)\n    return z\n";
    let two = "if x:\n\ty=f(x,1)\n\tz=g(y)\n\treturn z\n";
    let three = "if x: y = f[x, 1] z = g[y] return z";
    let texts = [Some(one), Some(two), Some(three)];
    let kept = |code: &[bool]| {
        let corpus = Corpus { texts: &texts, code, rank: &[0, 1, 2] };
        deduplicate(&corpus, &Settings::default()).unwrap().keep
    };
    assert_eq!(kept(&[true, true, true]), [true, false, true]);
    assert_eq!(kept(&[]), [true, false, false]);
    assert_eq!(kept(&[true, false, false]), [true, true, false]);
}

#[test]
fn impossible_settings_and_lengths() {
    let check = |settings: Settings| settings.check().map_err(|error| error.to_string());
    let base = Settings::default;
    let message = check(Settings { bands: 26, ..base() }).unwrap_err();
    assert_eq!(message, "bands × rows = 26 × 5 needs 130 permutations, there are 128");
    assert!(check(Settings { ngram: 0, ..base() }).unwrap_err().contains("ngram"));
    assert!(check(Settings { ngram: 257, ..base() }).unwrap_err().contains("256"));
    for threshold in [0.0, 1.01, f64::NAN] {
        assert!(check(Settings { threshold, ..base() }).is_err());
    }
    let corpus = Corpus { texts: &[Some("a")], code: &[], rank: &[] };
    assert!(deduplicate(&corpus, &base()).unwrap_err().to_string().contains("1 documents but 0"));
    let corpus = Corpus { texts: &[Some("a")], code: &[true, false], rank: &[0] };
    assert!(deduplicate(&corpus, &base()).unwrap_err().to_string().contains("code"));
}
