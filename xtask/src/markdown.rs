//! What the checks need of Markdown: headings as anchors, and links.

use std::collections::BTreeMap;

/// Lines outside fenced code, with their numbers from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((index + 1, line))
    })
}

/// The anchors of a document's headings, as GitHub and mdBook make them.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings = prose(text).filter(|(_, line)| line.starts_with('#'));
    let names = headings.map(|(_, line)| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' '));
        let name: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let count = seen.entry(name.clone()).and_modify(|count| *count += 1).or_insert(0);
        if *count == 0 { name } else { format!("{name}-{count}") }
    });
    names.collect()
}

/// Targets of links and pictures, each with its line.
pub(crate) fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().unwrap_or_default();
            found.push((number, target.split(' ').next().unwrap_or_default().to_owned()));
        }
    }
    found
}

/// Code spans of the prose, each with its line.
pub(crate) fn code(text: &str) -> Vec<(usize, String)> {
    let spans = |(number, line): (usize, &str)| -> Vec<(usize, String)> {
        line.split('`').skip(1).step_by(2).map(|code| (number, code.to_owned())).collect()
    };
    prose(text).flat_map(spans).collect()
}

/// Files that a page of the guide includes, each with its line.
pub(crate) fn included(text: &str) -> Vec<(usize, String)> {
    let path = |line: &str| Some(line.trim().strip_prefix("{{#include ")?.strip_suffix("}}")?.to_owned());
    text.lines().enumerate().filter_map(|(index, line)| Some((index + 1, path(line)?))).collect()
}

/// A line without its code spans; what is left is prose.
fn without_code(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    // Without a second backtick, the first is a character like any other.
    let closed = parts.len() % 2 == 1;
    let kept = parts.iter().enumerate().filter(|(index, _)| index % 2 == 0 || (!closed && index + 1 == parts.len()));
    kept.map(|(_, part)| *part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_those_of_github() {
        let text =
            "# DyLoRA's claim, on the miniature\n```\n# no heading\n```\n## `with`\n## `with`\n## If it fails: `a_b`\n";
        assert_eq!(anchors(text), ["dyloras-claim-on-the-miniature", "with", "with-1", "if-it-fails-a_b"]);
    }

    #[test]
    fn links_in_code_are_none() {
        let text = "[`a`](b.md#c) and `[x](y)` ![d](e.png \"f\")\n```\n[g](h)\n```\n[i](j)\n";
        assert_eq!(code(text), [(1, "a".to_owned()), (1, "[x](y)".to_owned())]);
        assert_eq!(links(text), [(1, "b.md#c".to_owned()), (1, "e.png".to_owned()), (5, "j".to_owned())]);
    }
}
