use std::fs;

use super::runs::RunWriter;
use super::*;
use crate::deduplicate::tests::{alike, chain};
use crate::{Clusters, Corpus, KeepKeys, Key, Outcome, deduplicate, keep_order, signatures};

/// A folder that is gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dedup-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Texts, some of them twice, missing or empty, with scores in which they are kept.
struct Sample {
    texts: Vec<Option<String>>,
    score: Vec<f64>,
}

impl Sample {
    fn new(count: usize, seed: u64) -> Self {
        let mut state = seed;
        let mut next = |below: u64| crate::hash::split_mix(&mut state) % below;
        let mut texts: Vec<Option<String>> = alike(count, seed).into_iter().map(Some).collect();
        texts.extend(chain(40).into_iter().map(Some));
        for number in 0..count / 10 {
            texts.push(texts[next(count as u64) as usize].clone());
            texts.push(Some(format!("only {number} here and nowhere else {}", next(1 << 50))));
        }
        texts.extend([None, Some(String::new()), Some("!!!".into()), Some("red kite".into())]);
        let score = texts.iter().map(|_| next(5) as f64).collect();
        Self { texts, score }
    }

    fn texts(&self) -> Vec<Option<&str>> {
        self.texts.iter().map(Option::as_deref).collect()
    }

    fn in_memory(&self, settings: &Settings) -> Outcome {
        let texts = self.texts();
        let ids: Vec<i64> = (0..texts.len() as i64).collect();
        let rank = keep_order(&texts, &self.keys(&ids, 0..texts.len())).unwrap();
        deduplicate(&Corpus { texts: &texts, code: &[], rank: &rank }, settings).unwrap()
    }

    fn keys<'a>(&'a self, ids: &'a [i64], rows: std::ops::Range<usize>) -> KeepKeys<'a> {
        static PRESENT: [bool; 100_000] = [true; 100_000];
        let present = &PRESENT[..rows.len()];
        KeepKeys {
            snapshot: None,
            score: Some(Key::Floats(&self.score[rows.clone()])),
            id: Some(Key::Integers(&ids[rows], present)),
        }
    }

    fn sign(&self, work: &mut Work, chunk: usize) {
        let (texts, done) = (self.texts(), work.signed());
        let ids: Vec<i64> = (0..texts.len() as i64).collect();
        for first in (0..texts.len()).step_by(chunk) {
            let rows = first..texts.len().min(first + chunk);
            if !done.contains(&(first as u32, rows.len() as u32)) {
                let keys = self.keys(&ids, rows.clone());
                let batch = Batch { texts: &texts[rows], code: &[], keys: &keys };
                work.sign(first as u32, &batch).unwrap();
            }
        }
    }

    /// The same on disk, in chunks of some documents.
    fn on_disk(&self, work: &mut Work, chunk: usize) -> Result<Outcome, DedupError> {
        self.sign(work, chunk);
        let parts = work.group()?;
        let texts = self.texts();
        let firsts: Vec<u32> = (0..texts.len() as u32).step_by(chunk).collect();
        for &first in &firsts {
            if !work.is_collected(first)? {
                let rows = first as usize..texts.len().min(first as usize + chunk);
                work.collect(first, &texts[rows], &[])?;
            }
        }
        for part in 0..parts {
            work.decide(part, &firsts)?;
        }
        work.outcome()
    }
}

#[test]
fn same_as_in_memory() {
    let folder = Folder::new("same");
    for (number, (count, chunk, memory)) in
        [(60, 7, 1 << 20), (900, 1_000, 64 << 20), (2_500, 333, 1 << 20)].into_iter().enumerate()
    {
        let sample = Sample::new(count, number as u64);
        for clusters in [Clusters::Greedy, Clusters::Components] {
            for verify in [Verify::Exact, Verify::Signature] {
                let settings =
                    Settings { clusters, verify, max_candidates: 30, ..Settings::default() };
                let path = folder.0.join(format!("{number}{clusters:?}{verify:?}"));
                fs::create_dir(&path).unwrap();
                let mut work = Work::open(&path, &settings, memory, 0).unwrap();
                let want = sample.in_memory(&settings);
                assert!(want.keep.contains(&false));
                assert_eq!(sample.on_disk(&mut work, chunk).unwrap(), want, "{path:?}");
            }
        }
    }
}

/// A group larger than a part: its texts are read from disk one by one.
#[test]
fn a_group_larger_than_memory() {
    let folder = Folder::new("large");
    let sample = Sample::new(3_000, 4);
    let settings = Settings::default();
    let mut work = Work::open(&folder.0, &settings, 0, 0).unwrap();
    let outcome = sample.on_disk(&mut work, 500).unwrap();
    assert!(work.grouped().unwrap().large.contains(&true));
    assert_eq!(outcome, sample.in_memory(&settings));
}

#[test]
fn more_chunks_than_are_merged_at_once() {
    let folder = Folder::new("many");
    let sample = Sample::new(700, 5);
    let settings = Settings::default();
    let mut work = Work::open(&folder.0, &settings, 1 << 20, 0).unwrap();
    assert!(sample.texts.len() / 3 > 2 * merge::FAN_IN);
    assert_eq!(sample.on_disk(&mut work, 3).unwrap(), sample.in_memory(&settings));
}

#[test]
fn threads_leave_no_trace_in_any_file() {
    let sample = Sample::new(800, 6);
    let settings = Settings::default();
    let files = |threads: usize| {
        let folder = Folder::new(&format!("threads{threads}"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut work = Work::open(&folder.0, &settings, 1 << 20, 0).unwrap();
            sample.on_disk(&mut work, 100).unwrap();
        });
        folder
            .files()
            .into_iter()
            .map(|path| (path.file_name().unwrap().to_owned(), fs::read(&path).unwrap()))
            .collect::<Vec<_>>()
    };
    assert!(files(1) == files(3));
}

/// Any file torn, gone or altered: found, and that one made again.
#[test]
fn damaged_files_are_made_again() {
    let folder = Folder::new("damaged");
    let sample = Sample::new(300, 7);
    let settings = Settings::default();
    let want = sample.in_memory(&settings);
    let open = || Work::open(&folder.0, &settings, 1 << 20, 9).unwrap();
    assert_eq!(sample.on_disk(&mut open(), 100).unwrap(), want);
    let contents = |files: &[PathBuf]| -> Vec<Vec<u8>> {
        files.iter().map(|path| fs::read(path).unwrap()).collect()
    };
    let files = folder.files();
    let whole = contents(&files);
    for (path, bytes) in files.iter().zip(&whole) {
        let cut = &bytes[..bytes.len() - 10];
        let mut altered = bytes.clone();
        altered[bytes.len() / 3] ^= 4;
        for damage in [Some(cut), Some(&altered[..]), Some(&[]), None] {
            match damage {
                Some(damage) => fs::write(path, damage).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            let number = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(sample.on_disk(&mut open(), 100).unwrap(), want, "{number}");
            assert!(contents(&files) == whole, "{number}");
        }
    }
    // Only that one: a chunk that is whole is not signed again.
    let path = folder.0.join("chunk-0000000100.bands");
    let kept = folder.0.join("chunk-0000000000.bands");
    let time = |path: &PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    let before = time(&kept);
    fs::write(&path, b"torn").unwrap();
    assert!(!open().signed().contains(&(100, 100)));
    assert_eq!(sample.on_disk(&mut open(), 100).unwrap(), want);
    assert_eq!(time(&kept), before);
}

#[test]
fn files_of_other_documents_or_settings_do_not_count() {
    let folder = Folder::new("others");
    let sample = Sample::new(60, 8);
    let settings = Settings::default();
    sample.on_disk(&mut Work::open(&folder.0, &settings, 1 << 20, 1).unwrap(), 50).unwrap();
    let signed = |settings: &Settings, corpus| {
        Work::open(&folder.0, settings, 1 << 20, corpus).unwrap().signed().len()
    };
    assert!(signed(&settings, 1) > 1);
    assert_eq!(signed(&settings, 2), 0);
    assert_eq!(signed(&Settings { seed: 4, ..settings.clone() }, 1), 0);
    assert_eq!(signed(&Settings { threshold: 0.9, ..settings.clone() }, 1), signed(&settings, 1));
}

#[test]
fn steps_out_of_order_and_gaps() {
    let folder = Folder::new("gaps");
    let sample = Sample::new(60, 9);
    let settings = Settings::default();
    let mut work = Work::open(&folder.0, &settings, 1 << 20, 0).unwrap();
    assert!(work.outcome().unwrap_err().to_string().contains("not grouped"));
    assert_eq!(work.group().unwrap(), 0);
    assert_eq!(work.outcome().unwrap(), Outcome::default());
    sample.sign(&mut work, 20);
    let parts = work.group().unwrap();
    assert!(parts > 0);
    let error = work.decide(0, &[0]).unwrap_err().to_string();
    assert!(error.contains("content-0000000000.run: the file is missing"), "{error}");
    fs::remove_file(folder.0.join("chunk-0000000020.sizes")).unwrap();
    let mut work = Work::open(&folder.0, &settings, 1 << 20, 0).unwrap();
    assert!(work.group().unwrap_err().to_string().contains("document 20 was never signed"));
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let settings = Settings::default();
    let folder = Folder::new("gone");
    let mut work = Work::open(&folder.0, &settings, 1 << 20, 0).unwrap();
    fs::remove_dir(&folder.0).unwrap();
    let keys = KeepKeys::default();
    let batch = Batch { texts: &[Some("a")], code: &[], keys: &keys };
    let error = work.sign(0, &batch).unwrap_err().to_string();
    assert!(error.contains("chunk-0000000000.bands: No such file"), "{error}");
    // /dev/full refuses every byte.
    let Some(mut writer) = RunWriter::on_full_disk() else { return };
    let mut written = Ok(());
    for number in 0..100_000_u32 {
        written = written.and_then(|()| writer.push(&number, 0));
    }
    assert!(written.unwrap_err().to_string().contains("No space left"));
}

#[test]
fn signatures_alone() {
    let texts = alike(700, 11);
    let texts: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
    let settings = Settings { verify: Verify::Signature, ..Settings::default() };
    let slots = signatures(&texts, &[], &settings).unwrap();
    let folder = Folder::new("signatures");
    let mut work = Work::open(&folder.0, &settings, 1 << 20, 0).unwrap();
    for (number, part) in slots.chunks(100 * 128).enumerate() {
        work.sign_signatures(100 * number as u32, part, 128).unwrap();
    }
    let parts = work.group().unwrap();
    let firsts: Vec<u32> = (0..700).step_by(100).collect();
    (0..parts).for_each(|part| work.decide(part, &firsts).unwrap());
    let got = work.outcome().unwrap();
    let rank: Vec<u32> = (0..700).collect();
    let want = deduplicate(&Corpus { texts: &texts, code: &[], rank: &rank }, &settings).unwrap();
    assert_eq!(got.keep, want.keep);
    let error = |slots: &[u32], length| {
        let mut work = Work::open(&folder.0, &settings, 1 << 20, 0).unwrap();
        work.sign_signatures(700, slots, length).unwrap_err().to_string()
    };
    assert!(
        error(&slots[..64], 64).contains("of 64 slots were given; those compared here have 128")
    );
    assert!(error(&slots[..127], 128).contains("signatures"));
}
