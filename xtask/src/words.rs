//! Private words that gave way to the field's, so that they do not come back. `words.txt` has one per line.

use std::path::{Path, PathBuf};

use crate::files::{below, documents, read, shown};

/// A word and what stands in its place.
#[derive(Debug)]
struct Rule<'a> {
    word: &'a str,
    instead: &'a str,
    /// Beginnings of paths where it may stand.
    allowed: Vec<&'a str>,
}

/// The list, `word | instead | allowed, allowed`; lines with `#` explain.
const LIST: &str = include_str!("words.txt");

fn rules() -> Vec<Rule<'static>> {
    let lines = LIST.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let rule = |line: &'static str| {
        let mut parts = line.split('|').map(str::trim);
        let (word, instead, allowed) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
        let allowed = allowed.split(',').map(str::trim).filter(|path| !path.is_empty()).collect();
        Rule { word: word.unwrap_or_default(), instead: instead.unwrap_or_default(), allowed }
    };
    lines.map(rule).collect()
}

/// Every place where a word of the list stands.
pub(crate) fn problems(root: &Path) -> Vec<String> {
    let mut files: Vec<PathBuf> =
        ["crates", "examples", "xtask"].iter().flat_map(|at| below(&root.join(at), "rs")).collect();
    files.extend(below(&root.join("experiments"), "yaml"));
    files.extend(["bench", "notebooks", "scripts"].iter().flat_map(|at| below(&root.join(at), "py")));
    files.extend(below(&root.join("notebooks"), "ipynb"));
    files.extend(documents(root));
    let (rules, mut problems) = (rules(), Vec::new());
    for path in files {
        let place = shown(root, &path);
        let here: Vec<&Rule<'_>> =
            rules.iter().filter(|rule| !rule.allowed.iter().any(|start| place.starts_with(start))).collect();
        let mut text = read(&path);
        if path.extension().is_some_and(|extension| extension == "ipynb") {
            text = crate::notebooks::written(&text);
        }
        for (index, line) in text.lines().enumerate() {
            for Rule { word, instead, .. } in here.iter().filter(|rule| has(line, rule.word)) {
                problems.push(format!("{place}:{}: `{word}`; write {instead}", index + 1));
            }
        }
    }
    problems
}

/// Whether a line has a word that is no part of another.
fn has(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (line[..at].chars().next_back(), line[at + word.len()..].chars().next());
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_not_found_inside_another() {
        assert!(has("pub struct Word {", "Word") && has("as two words.", "two words"));
        assert!(!has("Keyword, WordLike, word_of", "Word"));
    }

    #[test]
    fn every_rule_says_what_to_write() {
        assert!(rules().iter().all(|rule| !rule.word.is_empty() && !rule.instead.is_empty()), "{:?}", rules());
    }
}
