//! Bindings of the `internlm-text` crate.

use internlm_text::c4;
use internlm_text::spacy::Tokenizer;
use internlm_text::{Measurer, Metric, Metrics, Profile, RuleSet, Words};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rayon::prelude::*;

use crate::arrow::{ArrowColumn, StrColumn};
use crate::error::{ConfigError, DataError, in_pool};
use crate::lend::{Lender, Lent};

/// Texts a thread takes at once: few enough to share evenly, many enough to keep its buffers.
const RUN: usize = 64;

/// Kept between calls, for the tokens that they know; not those that a huge text made big.
static MEASURERS: Lender<Measurer, fn() -> Measurer> =
    Lender::keeping(Measurer::default, |measurer| measurer.memory() <= 64 << 20);

/// One of them, set to measure compression or not.
fn measurer(compression: bool) -> Lent<'static, Measurer> {
    let mut measurer = MEASURERS.lend();
    measurer.set_compression(compression);
    measurer
}

#[pyfunction]
#[pyo3(signature = (sources, urls, texts, threads=0))]
fn record_ids(
    py: Python<'_>,
    sources: StrColumn,
    urls: StrColumn,
    texts: StrColumn,
    threads: usize,
) -> PyResult<ArrowColumn> {
    let (sources, urls, texts) = (sources.rows(), urls.rows(), texts.rows());
    same_length(["sources", "urls", "texts"], [sources.len(), urls.len(), texts.len()])?;
    let ids: Vec<String> = in_pool(py, threads, || {
        (0..texts.len())
            .into_par_iter()
            .map(|row| {
                internlm_text::record_id(
                    sources[row].unwrap_or(""),
                    urls[row].unwrap_or(""),
                    texts[row].unwrap_or(""),
                )
            })
            .collect()
    })?;
    Ok(ArrowColumn::from_strings(ids.into_iter().map(Some)))
}

fn same_length(names: [&str; 3], lengths: [usize; 3]) -> PyResult<()> {
    if lengths[0] == lengths[1] && lengths[1] == lengths[2] {
        return Ok(());
    }
    let parts: Vec<String> =
        names.iter().zip(lengths).map(|(name, length)| format!("{length} {name}")).collect();
    Err(DataError::new_err(format!("columns differ in length: {}", parts.join(", "))))
}

fn columns<'py>(
    py: Python<'py>,
    metrics: &[Metrics],
    compression: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let columns = PyDict::new(py);
    for &metric in Metric::ALL {
        if metric == Metric::CompressionRatio && !compression {
            continue;
        }
        let values = metrics.iter().map(|text| text.get(metric));
        if metric.is_count() {
            let counts: Vec<u32> = values.map(|value| value as u32).collect();
            columns.set_item(metric.name(), counts.into_pyarray(py))?;
        } else {
            columns.set_item(metric.name(), values.collect::<Vec<f64>>().into_pyarray(py))?;
        }
    }
    Ok(columns)
}

/// Whose words `compat` counts; none where it is off.
fn compat_words(compat: Option<&str>) -> PyResult<Option<Words>> {
    match compat {
        None => Ok(None),
        Some("spacy") => Ok(Some(Words::Spacy)),
        Some("blanks") => Ok(Some(Words::Blanks)),
        Some(other) => Err(ConfigError::new_err(format!(
            "compat {other:?}: expected \"spacy\" (spaCy's English words) or \"blanks\""
        ))),
    }
}

fn measure(
    measurer: &mut Measurer,
    text: &str,
    lang: Option<&str>,
    compat: Option<Words>,
) -> Metrics {
    match compat {
        Some(words) => measurer.measure_compat(text, words),
        None => measurer.measure(text, lang),
    }
}

#[pyfunction]
#[pyo3(signature = (texts, langs, compat=None, compression=false, threads=0))]
fn text_metrics<'py>(
    py: Python<'py>,
    texts: StrColumn,
    langs: StrColumn,
    compat: Option<&str>,
    compression: bool,
    threads: usize,
) -> PyResult<Bound<'py, PyDict>> {
    let compat = compat_words(compat)?;
    let (texts, langs) = (texts.rows(), langs.rows());
    same_length(["texts", "langs", "langs"], [texts.len(), langs.len(), langs.len()])?;
    let measure = |measurer: &mut Measurer, row: usize| {
        measure(measurer, texts[row].unwrap_or(""), langs[row], compat)
    };
    let metrics: Vec<Metrics> = in_pool(py, threads, || {
        let rows = (0..texts.len()).into_par_iter().with_min_len(RUN);
        rows.map_init(|| measurer(compression), |measurer, row| measure(measurer, row)).collect()
    })?;
    columns(py, &metrics, compression)
}

/// reason (-1: kept, else the rule's number), profile (0 words, 1 characters, 2 code), value and
/// threshold by row; and the statistics.
type Judged<'py> = (
    Bound<'py, PyArray1<i32>>,
    Bound<'py, PyArray1<u8>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyDict>,
);

#[pyfunction]
#[pyo3(signature = (texts, langs, sources, rules, compat=None, threads=0))]
fn text_rules<'py>(
    py: Python<'py>,
    texts: StrColumn,
    langs: StrColumn,
    sources: StrColumn,
    rules: &str,
    compat: Option<&str>,
    threads: usize,
) -> PyResult<Judged<'py>> {
    let compat = compat_words(compat)?;
    let rules = RuleSet::from_json(rules).map_err(|e| ConfigError::new_err(e.to_string()))?;
    let (texts, langs, sources) = (texts.rows(), langs.rows(), sources.rows());
    same_length(["texts", "langs", "sources"], [texts.len(), langs.len(), sources.len()])?;
    let compression = rules.asks(Metric::CompressionRatio);
    let judge = |measurer: &mut Measurer, row: usize| {
        let metrics = measure(measurer, texts[row].unwrap_or(""), langs[row], compat);
        // The references know one profile.
        let profile = match compat {
            Some(_) => Profile::Words,
            None => Profile::of(sources[row], langs[row], &metrics),
        };
        (rules.judge(&metrics, profile), profile, metrics)
    };
    let judged: Vec<_> = in_pool(py, threads, || {
        let rows = (0..texts.len()).into_par_iter().with_min_len(RUN);
        rows.map_init(|| measurer(compression), |measurer, row| judge(measurer, row)).collect()
    })?;
    let reason = |failure: Option<internlm_text::Failure>| failure.map_or(-1, |f| f.rule as i32);
    let reasons: Vec<i32> = judged.iter().map(|row| reason(row.0)).collect();
    let profiles: Vec<u8> = judged.iter().map(|row| row.1 as u8).collect();
    let values: Vec<f64> = judged.iter().map(|row| row.0.map_or(f64::NAN, |f| f.value)).collect();
    let thresholds: Vec<f64> =
        judged.iter().map(|row| row.0.map_or(f64::NAN, |f| f.threshold)).collect();
    let metrics: Vec<Metrics> = judged.into_iter().map(|row| row.2).collect();
    Ok((
        reasons.into_pyarray(py),
        profiles.into_pyarray(py),
        values.into_pyarray(py),
        thresholds.into_pyarray(py),
        columns(py, &metrics, compression)?,
    ))
}

/// Name, whether it is a count, and what it means, of every statistic.
#[pyfunction]
fn metric_table() -> Vec<(&'static str, bool, &'static str)> {
    Metric::ALL.iter().map(|m| (m.name(), m.is_count(), m.description())).collect()
}

/// Compiled rules about lines.
#[pyclass(frozen, module = "internlm_core._core")]
struct LineRules(internlm_text::LineRules);

#[pymethods]
impl LineRules {
    #[new]
    fn new(json: &str) -> PyResult<Self> {
        let rules = internlm_text::LineRules::from_json(json);
        rules.map(Self).map_err(|e| ConfigError::new_err(e.to_string()))
    }
}

type Counted<'py> = Bound<'py, PyDict>;

#[pyfunction]
#[pyo3(signature = (texts, sources, form="nfc", citations=false, lines=None, threads=0))]
fn normalise_texts<'py>(
    py: Python<'py>,
    texts: StrColumn,
    sources: StrColumn,
    form: &str,
    citations: bool,
    lines: Option<Py<LineRules>>,
    threads: usize,
) -> PyResult<(ArrowColumn, Counted<'py>, Counted<'py>)> {
    let (rows, sources) = (texts.rows(), sources.rows());
    same_length(["texts", "sources", "sources"], [rows.len(), sources.len(), sources.len()])?;
    let form = match form {
        "nfc" => internlm_text::Form::Nfc,
        "nfkc" => internlm_text::Form::Nfkc,
        _ => return Err(ConfigError::new_err(format!("form {form:?}: expected nfc or nfkc"))),
    };
    let rules = lines.as_ref().map(|rules| &rules.get().0);
    let clean: Vec<_> = in_pool(py, threads, || {
        let repair = |row: usize| {
            let is_code = sources[row] == Some("code");
            let repairs = internlm_text::Repairs { is_code, form, citations, lines: rules };
            rows[row].map(|text| internlm_text::normalise(text, repairs))
        };
        (0..rows.len()).into_par_iter().map(repair).collect()
    })?;
    let (counts, characters) = (PyDict::new(py), PyDict::new(py));
    let column = |of: &dyn Fn(&internlm_text::Edits) -> u32| -> Vec<u32> {
        clean.iter().map(|row| row.as_ref().map_or(0, |row| of(&row.1))).collect()
    };
    for (kind, name) in internlm_text::EDIT_NAMES.into_iter().enumerate() {
        counts.set_item(name, column(&|edits| edits.counts[kind]).into_pyarray(py))?;
        characters.set_item(name, column(&|edits| edits.characters[kind]).into_pyarray(py))?;
    }
    // Rules about lines by their number, those that took something only.
    let mut used: Vec<usize> =
        clean.iter().flatten().flat_map(|row| row.1.lines.iter().map(|line| line.0)).collect();
    used.sort_unstable();
    used.dedup();
    for rule in used {
        let of =
            |edits: &internlm_text::Edits| edits.lines.iter().find(|line| line.0 == rule).copied();
        let lines = column(&|edits| of(edits).map_or(0, |line| line.1));
        let chars = column(&|edits| of(edits).map_or(0, |line| line.2));
        counts.set_item(rule, lines.into_pyarray(py))?;
        characters.set_item(rule, chars.into_pyarray(py))?;
    }
    let texts = clean.into_iter().map(|row| row.map(|row| row.0));
    Ok((ArrowColumn::from_strings(texts), counts, characters))
}

/// Whether each text may hold UTF-8 that was read as something else.
#[pyfunction]
#[pyo3(signature = (texts, threads=0))]
fn suspects_mojibake<'py>(
    py: Python<'py>,
    texts: StrColumn,
    threads: usize,
) -> PyResult<Bound<'py, PyArray1<bool>>> {
    let rows = texts.rows();
    let found: Vec<bool> = in_pool(py, threads, || {
        rows.par_iter().map(|text| text.is_some_and(internlm_text::suspects_mojibake)).collect()
    })?;
    Ok(found.into_pyarray(py))
}

/// code, score, script and script share by row; then row, code and share of each language told apart.
type Detected<'py> = (
    ArrowColumn,
    Bound<'py, PyArray1<f32>>,
    ArrowColumn,
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray1<u32>>,
    ArrowColumn,
    Bound<'py, PyArray1<f32>>,
);

#[pyfunction]
#[pyo3(signature = (texts, threads=0))]
fn detect_languages<'py>(
    py: Python<'py>,
    texts: StrColumn,
    threads: usize,
) -> PyResult<Detected<'py>> {
    let rows = texts.rows();
    let found: Vec<internlm_text::Language> = in_pool(py, threads, || {
        rows.par_iter().map(|text| internlm_text::detect_language(text.unwrap_or(""))).collect()
    })?;
    let column = |of: fn(&internlm_text::Language) -> f32| -> Bound<'py, PyArray1<f32>> {
        found.iter().map(of).collect::<Vec<f32>>().into_pyarray(py)
    };
    let rows: Vec<u32> = (0u32..)
        .zip(&found)
        .flat_map(|(row, language)| std::iter::repeat_n(row, language.languages.len()))
        .collect();
    let pairs = || found.iter().flat_map(|language| &language.languages);
    let shares: Vec<f32> = pairs().map(|pair| pair.1).collect();
    Ok((
        ArrowColumn::from_strings(found.iter().map(|language| Some(language.code))),
        column(|language| language.score),
        ArrowColumn::from_strings(found.iter().map(|language| language.script)),
        column(|language| language.script_share),
        rows.into_pyarray(py),
        ArrowColumn::from_strings(pairs().map(|pair| Some(pair.0))),
        shares.into_pyarray(py),
    ))
}

/// spaCy's English tokens of each text, as spans in characters, and the number of its sentences.
#[pyfunction]
#[pyo3(signature = (texts, threads=0))]
fn spacy_words(
    py: Python<'_>,
    texts: StrColumn,
    threads: usize,
) -> PyResult<Vec<(Vec<String>, u64)>> {
    let texts = texts.rows();
    let tokenizers = Lender::new(Tokenizer::default);
    in_pool(py, threads, || {
        let rows = (0..texts.len()).into_par_iter().with_min_len(RUN);
        let split = |tokenizer: &mut Tokenizer, row: usize| {
            let text = texts[row].unwrap_or("");
            let words = tokenizer
                .tokens(text)
                .iter()
                .map(|&(from, to)| text[from as usize..to as usize].to_owned())
                .collect();
            (words, tokenizer.sentences(text))
        };
        rows.map_init(|| tokenizers.lend(), |tokenizer, row| split(tokenizer, row)).collect()
    })
}

/// Text that stays (none where the page is dropped), reason, sentences, and lines by fate.
type Cleaned<'py> = (ArrowColumn, ArrowColumn, Bound<'py, PyArray1<u32>>, Bound<'py, PyDict>);

#[pyfunction]
#[pyo3(signature = (texts, by_line, remove_citations, end_punctuation, bounds, drops, threads=0))]
#[allow(clippy::too_many_arguments, reason = "the filter's options, by name in Python")]
fn c4_filter<'py>(
    py: Python<'py>,
    texts: StrColumn,
    by_line: bool,
    remove_citations: bool,
    end_punctuation: bool,
    bounds: (i64, i64, i64),
    drops: (bool, bool, bool, bool),
    threads: usize,
) -> PyResult<Cleaned<'py>> {
    let options = c4::Options {
        by_line,
        remove_citations,
        end_punctuation,
        min_sentences: bounds.0,
        min_words: bounds.1,
        max_word_chars: bounds.2,
        lorem_ipsum: drops.0,
        javascript: drops.1,
        curly_bracket: drops.2,
        policy: drops.3,
    };
    let texts = texts.rows();
    let clean = |filter: &mut c4::Filter, row: usize| {
        let mut kept = String::new();
        let outcome = filter.run(texts[row].unwrap_or(""), &options, Some(&mut kept));
        (outcome.reason.is_none().then_some(kept), outcome)
    };
    let filters = Lender::new(c4::Filter::default);
    let rows: Vec<_> = in_pool(py, threads, || {
        let rows = (0..texts.len()).into_par_iter().with_min_len(RUN);
        rows.map_init(|| filters.lend(), |filter, row| clean(filter, row)).collect()
    })?;
    let lines = PyDict::new(py);
    let column = |of: fn(&c4::Lines) -> u64| {
        let counts: Vec<u32> = rows.iter().map(|row| of(&row.1.lines) as u32).collect();
        counts.into_pyarray(py)
    };
    lines.set_item("lines", column(|lines| lines.total))?;
    lines.set_item("too_long_word", column(|lines| lines.too_long_word))?;
    lines.set_item("no_terminal_punctuation", column(|lines| lines.no_terminal_punctuation))?;
    lines.set_item("too_few_words", column(|lines| lines.too_few_words))?;
    lines.set_item("javascript", column(|lines| lines.javascript))?;
    lines.set_item("policy", column(|lines| lines.policy))?;
    lines.set_item("kept", column(|lines| lines.kept))?;
    let sentences: Vec<u32> = rows.iter().map(|row| row.1.sentences as u32).collect();
    let reasons = ArrowColumn::from_strings(
        rows.iter().map(|row| row.1.reason.map(|reason| reason.name().to_owned())),
    );
    let texts = ArrowColumn::from_strings(rows.into_iter().map(|row| row.0));
    Ok((texts, reasons, sentences.into_pyarray(py), lines))
}

/// Adds this room's functions and classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(record_ids, module)?)?;
    module.add_function(wrap_pyfunction!(text_metrics, module)?)?;
    module.add_function(wrap_pyfunction!(text_rules, module)?)?;
    module.add_function(wrap_pyfunction!(c4_filter, module)?)?;
    module.add_function(wrap_pyfunction!(spacy_words, module)?)?;
    module.add_function(wrap_pyfunction!(metric_table, module)?)?;
    module.add_class::<LineRules>()?;
    module.add_function(wrap_pyfunction!(normalise_texts, module)?)?;
    module.add_function(wrap_pyfunction!(suspects_mojibake, module)?)?;
    module.add_function(wrap_pyfunction!(detect_languages, module)?)
}
