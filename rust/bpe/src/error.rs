//! What can be wrong with a vocabulary file or a request.

/// An error of this crate; every message names the field or value at fault.
#[derive(Debug, thiserror::Error)]
pub enum BpeError {
    /// The file is not what its format asks for.
    #[error("{field}: {problem}")]
    Malformed {
        /// Where: a JSON path or a line number.
        field: String,
        /// What is wrong there.
        problem: String,
    },
    /// The file asks for something that is not implemented, and guessing would give wrong ids.
    #[error("{field}: {what} is not supported; supported: {supported}")]
    Unsupported {
        /// Where: a JSON path.
        field: String,
        /// What was asked for.
        what: String,
        /// What could be asked for.
        supported: &'static str,
    },
    /// An id that the vocabulary does not have.
    #[error("id {id} is outside the vocabulary (0 to {})", .size - 1)]
    UnknownId {
        /// The id.
        id: u32,
        /// Number of ids.
        size: usize,
    },
    /// A special token that the vocabulary does not have.
    #[error("special token {0:?} is not in the vocabulary")]
    UnknownSpecial(String),
    /// Training options that contradict each other or the text.
    #[error("{0}")]
    Training(String),
}

impl BpeError {
    /// A [`BpeError::Malformed`] from anything printable.
    pub fn malformed(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Malformed { field: field.into(), problem: problem.into() }
    }
}
