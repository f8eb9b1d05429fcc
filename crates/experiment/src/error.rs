//! Everything that is wrong with an experiment, in one error.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

use thiserror::Error;

use super::{fields::USE, path::Path, set::Set};

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, such as `variants[1].with.alpha`; empty for the file as a whole.
    pub path: String,
    /// The line of the value, or of the nearest value around it; `None` where it is not in the file.
    pub line: Option<usize>,
    /// The value, the rule and the way out.
    pub message: String,
}

/// Every problem of a file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct SpecErrors {
    /// The file, as the user named it.
    pub origin: String,
    /// From the top of the file down.
    pub problems: Vec<Problem>,
    /// How many more there are, which are not kept.
    pub more: usize,
    /// What helps with several of them.
    pub hint: Option<String>,
}

/// Leaves out a list of valid names that a problem before has shown.
fn say_lists_once(problems: &mut [Problem]) {
    let mut shown: HashSet<String> = HashSet::new();
    for problem in problems {
        let Some(at) = problem.message.find(USE) else { continue };
        if !shown.insert(problem.message[at..].to_owned()) {
            problem.message.truncate(at);
        }
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.problems.len() + self.more;
        write!(f, "{}: {n} problem{}", self.origin, if n == 1 { "" } else { "s" })?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        if self.more > 0 {
            write!(f, "\n  and {} more", self.more)?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.path.as_str(), self.line) {
            ("", _) => f.write_str(&self.message),
            (path, Some(line)) => write!(f, "{path} (line {line}): {}", self.message),
            (path, None) => write!(f, "{path}: {}", self.message),
        }
    }
}

/// Kinds of names, and what `lora-lab list` calls them.
const LISTS: [(&str, &str); 3] = [("models", "models"), ("tasks", "tasks"), ("presets", "variants")];

/// Problems that are kept: more of them are one mistake many times over, such as a list of the same number.
const MOST: usize = 200;

/// Problems as they are found.
#[derive(Debug, Default)]
pub(super) struct Report {
    found: Vec<(Path, String)>,
    /// Hashes of those past [`MOST`].
    more: HashSet<u64>,
    /// How often [`add`](Self::add) was called.
    added: usize,
    /// Kinds of names of which one was not known.
    unknown: BTreeSet<&'static str>,
}

impl Report {
    /// Adds a problem, once; past [`MOST`] it is counted alone.
    pub(super) fn add(&mut self, path: &Path, message: impl Into<String>) {
        self.added += 1;
        let problem = (path.clone(), message.into());
        if self.found.contains(&problem) {
            return;
        }
        if self.found.len() < MOST {
            self.found.push(problem);
        } else {
            let mut hasher = DefaultHasher::new();
            problem.hash(&mut hasher);
            self.more.insert(hasher.finish());
        }
    }

    /// Remembers that one of `names` was not known.
    pub(super) fn unknown_name(&mut self, names: &'static str) {
        self.unknown.insert(names);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many problems were met so far, also those that are there already or not kept: where it grows, something was wrong.
    pub(super) fn met(&self) -> usize {
        self.added
    }

    /// The error, with the lines of `text`. What an override has set has no line.
    pub(super) fn into_errors(self, origin: &str, text: &str, sets: &[Set]) -> SpecErrors {
        let problem = |(path, message): (Path, String)| {
            let (line, message) = match sets.iter().rev().find(|set| path.starts_with(&set.path)) {
                Some(set) => (None, format!("{message} (from `--set {}`)", set.text)),
                None => (path.line(text), message),
            };
            // As a path was placed: the same folder in fewer letters.
            let message = message.replace("/././", "/").replace("/./", "/");
            Problem { path: path.to_string(), line, message }
        };
        let mut problems: Vec<_> = self.found.into_iter().map(problem).collect();
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        say_lists_once(&mut problems);
        let lists = LISTS.iter().filter(|(names, _)| self.unknown.contains(names));
        let lists: Vec<_> = lists.map(|(_, list)| format!("`lora-lab list {list}`")).collect();
        let hint = match &lists[..] {
            [] => None,
            [list] => Some(format!("{list} shows all")),
            several => Some(format!("{} show all", several.join(" and "))),
        };
        SpecErrors { origin: origin.to_owned(), problems, more: self.more.len(), hint }
    }
}
