//! Unsafe code: ARCHITECTURE.md lists every file that has some, with what proves it; each place of it states why it is sound.

use std::{collections::BTreeMap, path::Path};

use crate::files::{below, read, shown};

/// What opens the comment that proves a place.
const PROOF: &str = "// SAFETY:";

/// Files that the list lacks, files of the list without unsafe code, other counts than the list's, and places without a proof.
pub(crate) fn problems(root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let mut found = BTreeMap::new();
    for folder in ["crates", "examples", "xtask", "fuzz"] {
        for path in below(&root.join(folder), "rs") {
            let (text, place) = (read(&path), shown(root, &path));
            let lines = places(&text);
            for line in &lines {
                if !is_proven(&text, *line) {
                    problems.push(format!("{place}:{}: unsafe code without `{PROOF}` above it", line + 1));
                }
            }
            if !lines.is_empty() {
                found.insert(place, lines.len());
            }
        }
    }
    let listed = listed(&read(&root.join("ARCHITECTURE.md")));
    if listed.is_empty() {
        problems.push("ARCHITECTURE.md: the table of unsafe code was not found".to_owned());
    }
    for (place, count) in &found {
        match listed.get(place) {
            None => problems.push(format!("ARCHITECTURE.md: the table of unsafe code has no `{place}`")),
            Some(said) if said != count => {
                problems.push(format!("ARCHITECTURE.md: `{place}` has {count} places of unsafe code, not {said}"));
            }
            Some(_) => {}
        }
    }
    let gone = listed.keys().filter(|place| !found.contains_key(*place));
    problems.extend(gone.map(|place| format!("ARCHITECTURE.md: `{place}` has no unsafe code; take it off the table")));
    problems
}

/// Lines, from 0, with the keyword in code. A declaration of foreign functions does nothing; each call of one is a place.
fn places(text: &str) -> Vec<usize> {
    let is_place = |line: &str| {
        let code: String = line.split("//").next().unwrap_or_default().split('"').step_by(2).collect();
        let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| word == "unsafe") && !code.contains("unsafe extern")
    };
    text.lines().enumerate().filter(|(_, line)| is_place(line)).map(|(at, _)| at).collect()
}

/// Whether the comment right above a line, or above the statement that it continues, is a proof.
fn is_proven(text: &str, line: usize) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let above = lines[..line].iter().rev().map(|line| line.trim_start());
    above.take_while(|line| line.starts_with("//")).any(|line| line.starts_with(PROOF))
}

/// The table's files with the number of places that it gives.
fn listed(text: &str) -> BTreeMap<String, usize> {
    let table = text.split("| file | places | ").nth(1).unwrap_or_default();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        Some((cells.get(1)?.trim_matches('`').to_owned(), cells.get(2)?.parse().ok()?))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::{is_proven, listed, places};

    #[test]
    fn code_counts_and_words_do_not() {
        let text = "//! The only unsafe code.\n#![expect(unsafe_code, reason = \"unsafe\")]\nunsafe extern \"C\" {}\n// SAFETY: a local.\nlet a = unsafe { f() };\nlet b = unsafe { f() };\nlet c = \"unsafe\";\n";
        assert_eq!(places(text), [4, 5]);
        assert!(is_proven(text, 4) && !is_proven(text, 5));
    }

    #[test]
    fn the_table_gives_files_and_counts() {
        let text =
            "words\n\n| file | places | what | proof |\n|---|---|---|---|\n| `a/b.rs` | 3 | calls | above |\n\n| c |";
        assert_eq!(listed(text).into_iter().collect::<Vec<_>>(), [("a/b.rs".to_owned(), 3)]);
    }
}
