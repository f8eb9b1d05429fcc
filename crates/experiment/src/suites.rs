//! Names of the suites that an experiment can choose from.

use data::{glue, suite, unseen};

/// Suites as an experiment names them.
pub const NAMES: &[&str] = &[suite::GLUE_MINI, unseen::UNSEEN, glue::GLUE, SHOWN_CUSTOM, TEXT];
/// Tasks of the user's files. Records have called the suite so since the first of them, and a recipe's hash must not change with a word;
/// an experiment may call it so as well.
pub const CUSTOM: &str = "own";
/// What an experiment calls [`CUSTOM`].
const SHOWN_CUSTOM: &str = "custom";
/// Texts of the user's files, for causal models.
pub const TEXT: &str = "text";

/// The name that records have for a suite.
pub fn recorded(written: &str) -> &str {
    if written == SHOWN_CUSTOM { CUSTOM } else { written }
}

/// The name that a message has for a suite.
pub fn shown(recorded: &str) -> &str {
    if recorded == CUSTOM { SHOWN_CUSTOM } else { recorded }
}
