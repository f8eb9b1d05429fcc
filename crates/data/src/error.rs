//! What can go wrong with data: an unknown name, or a tokenizer file that does not fit.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No suite of that name.
    #[error("suite: unknown suite `{name}`; did you mean `{nearest}`? the suites are {all}")]
    UnknownSuite {
        /// The name asked for.
        name: String,
        /// The valid name nearest to it.
        nearest: String,
        /// All valid names.
        all: String,
    },
    /// No task of that name in the suite.
    #[error("task: suite `{suite}` has no task `{name}`; did you mean `{nearest}`? its tasks are {all}")]
    UnknownTask {
        /// The suite.
        suite: String,
        /// The name asked for.
        name: String,
        /// The valid name nearest to it.
        nearest: String,
        /// All valid names.
        all: String,
    },
    /// The bytes are no tokenizer file.
    #[error("tokenizer: not a tokenizer.json: {reason}; use the file saved beside the model's weights")]
    Tokenizer {
        /// What the parser said.
        reason: String,
    },
    /// A token that something needs is missing.
    #[error(
        "tokenizer: the vocabulary has no token {tried} to {purpose}; add one to `added_tokens` of tokenizer.json, or name a token \
         of the vocabulary as `{key}` in tokenizer_config.json"
    )]
    MissingToken {
        /// Names that were looked for.
        tried: String,
        /// What the token is for.
        purpose: &'static str,
        /// The key that names it.
        key: &'static str,
    },
    /// The length limit leaves no room for text.
    #[error("max_len: is `{max_len}`, but the special tokens alone take {special}; use at least {least}", least = special + 1)]
    TooShort {
        /// The limit asked for.
        max_len: usize,
        /// Tokens that frame the text.
        special: usize,
    },
    /// A text that the caller gave is not what it should be.
    #[error("{place}: {problem}; {way_out}")]
    Text {
        /// File, file and line, or name of a setting.
        place: String,
        /// What was found, against which rule.
        problem: String,
        /// What to do.
        way_out: String,
    },
}
