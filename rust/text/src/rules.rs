//! Rules: a statistic and the range it must lie in; the first rule that fails is the reason.

use serde::Deserialize;

use crate::metrics::{Metric, Metrics};

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Name of the reason, for example `gopher.word_count`.
    pub reason: String,
    /// The statistic it looks at.
    pub metric: Metric,
    /// Smallest value that passes.
    pub min: f64,
    /// Largest value that passes.
    pub max: f64,
}

/// The rule that a text failed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Failure {
    /// Number of the rule in its profile.
    pub rule: usize,
    /// The text's value.
    pub value: f64,
    /// The bound that it passed over.
    pub threshold: f64,
}

/// Rules by kind of text, each in the order they are asked.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    /// Text in scripts that write words apart.
    pub words: Vec<Rule>,
    /// Text in scripts that do not (Chinese, Japanese, Korean, Thai, …).
    pub characters: Vec<Rule>,
    /// Source code.
    pub code: Vec<Rule>,
}

/// What kind of text a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Words are written apart.
    Words,
    /// A character is a word.
    Characters,
    /// Source code.
    Code,
}

/// Languages whose texts are judged by characters.
const BY_CHARACTER: [&str; 8] = ["zh", "ja", "ko", "th", "lo", "km", "my", "bo"];

impl Profile {
    /// By source first, then by language; where that is not known, by the text's own script.
    #[must_use]
    pub fn of(source: Option<&str>, lang: Option<&str>, metrics: &Metrics) -> Self {
        if source == Some("code") {
            return Self::Code;
        }
        let by_character = match lang {
            None | Some("und" | "") => metrics.get(Metric::UnitShare) > 0.5,
            Some(lang) => BY_CHARACTER.contains(&lang),
        };
        if by_character { Self::Characters } else { Self::Words }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    reason: String,
    metric: String,
    min: Option<f64>,
    max: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSet {
    words: Vec<RawRule>,
    characters: Vec<RawRule>,
    code: Vec<RawRule>,
}

/// Why rules can't be read.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// Not the JSON that was expected.
    #[error("rules: {0}")]
    Json(#[from] serde_json::Error),
    /// A statistic that does not exist.
    #[error("rule {reason:?}: unknown metric {metric:?}")]
    UnknownMetric {
        /// The rule's reason.
        reason: String,
        /// The name given.
        metric: String,
    },
    /// A rule without bounds, or whose bounds leave nothing.
    #[error("rule {0:?}: needs min or max, and min must not be above max")]
    Bounds(String),
}

impl RuleSet {
    /// Reads rules from JSON: `{"words": [{"reason", "metric", "min", "max"}, …], …}`.
    ///
    /// # Errors
    /// Wrong JSON, an unknown statistic, or bounds that make no sense.
    pub fn from_json(json: &str) -> Result<Self, RuleError> {
        let raw: RawSet = serde_json::from_str(json)?;
        let read = |rules: Vec<RawRule>| -> Result<Vec<Rule>, RuleError> {
            rules.into_iter().map(read_rule).collect()
        };
        Ok(Self {
            words: read(raw.words)?,
            characters: read(raw.characters)?,
            code: read(raw.code)?,
        })
    }

    /// The rules of a profile.
    #[must_use]
    pub fn profile(&self, profile: Profile) -> &[Rule] {
        match profile {
            Profile::Words => &self.words,
            Profile::Characters => &self.characters,
            Profile::Code => &self.code,
        }
    }

    /// Whether a rule looks at this statistic.
    #[must_use]
    pub fn asks(&self, metric: Metric) -> bool {
        let all = [&self.words, &self.characters, &self.code];
        all.into_iter().flatten().any(|rule| rule.metric == metric)
    }

    /// The first rule that the statistics fail, if any.
    ///
    /// A rule about stop words is passed over where the language has no list of them.
    #[must_use]
    pub fn judge(&self, metrics: &Metrics, profile: Profile) -> Option<Failure> {
        self.profile(profile).iter().enumerate().find_map(|(number, rule)| {
            let about_stop_words = matches!(rule.metric, Metric::StopWords | Metric::StopWordShare);
            if about_stop_words && !metrics.has_stop_words {
                return None;
            }
            let value = metrics.get(rule.metric);
            let threshold = if value < rule.min {
                rule.min
            } else if value > rule.max {
                rule.max
            } else {
                return None;
            };
            Some(Failure { rule: number, value, threshold })
        })
    }
}

fn read_rule(raw: RawRule) -> Result<Rule, RuleError> {
    let RawRule { reason, metric, min, max } = raw;
    let Some(metric) = Metric::from_name(&metric) else {
        return Err(RuleError::UnknownMetric { reason, metric });
    };
    if (min.is_none() && max.is_none()) || matches!((min, max), (Some(min), Some(max)) if min > max)
    {
        return Err(RuleError::Bounds(reason));
    }
    let (min, max) = (min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY));
    Ok(Rule { reason, metric, min, max })
}
