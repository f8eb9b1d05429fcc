//! Parts of documents that come from elsewhere. Tables and examples come from files: between `<!-- from PATH -->` and
//! `<!-- end -->` is the file at `PATH`, and between `<!-- rust from PATH -->` and `<!-- end -->` the same as a block of code. The
//! tables of `<!-- table of axes -->`, `<!-- table of presets -->` and `<!-- table of knobs -->` come from the registries of `variants`, and the
//! guide's pages of methods from the code's own documentation.

use std::{fs, path::Path};

use variants::preset::table;

use crate::methods;

/// Documents that hold tables.
const DOCUMENTS: &[&str] = &[
    "ARCHITECTURE.md",
    "README.md",
    "RESULTS.md",
    "bench/step.md",
    "crates/variants/src/lib.rs",
    "docs/src/experiments.md",
    "docs/src/statistics.md",
];

/// Puts the files' present content into the documents, and writes the guide's pages of methods.
pub(crate) fn write(root: &Path) -> std::io::Result<()> {
    for name in DOCUMENTS.iter().filter(|name| root.join(name).is_file()) {
        let path = root.join(name);
        fs::write(&path, filled(root, &fs::read_to_string(&path)?))?;
    }
    methods::write(root)
}

/// Documents whose parts are not what they come from. What a table of the registries does not have yet is no problem here: adding a
/// method takes its own file and one line. [`behind`] asks for it.
pub(crate) fn stale(root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, text) in texts(root) {
        for (part, inside) in parts(&text) {
            let inside: Vec<&str> = inside.iter().map(|line| bare(line)).collect();
            let holds = match part {
                Part::Table(table) => inside.iter().all(|line| table.lines().any(|row| is_row(line, row))),
                Part::File { .. } => inside.iter().copied().eq(content(root, &part).trim_end().lines().map(bare)),
            };
            if !holds {
                problems.push(format!("{name}: a table is not what it comes from; `just documents` writes it"));
            }
        }
    }
    problems.extend(methods::stale(root));
    problems
}

/// Documents that `just documents` would write otherwise.
pub(crate) fn behind(root: &Path) -> Vec<String> {
    let differs = |(_, text): &(&str, String)| filled(root, text) != *text;
    let behind = texts(root).into_iter().filter(differs);
    behind.map(|(name, _)| format!("{name}: lacks what was added; `just documents` writes it")).collect()
}

fn texts(root: &Path) -> Vec<(&'static str, String)> {
    DOCUMENTS.iter().map(|name| (*name, fs::read_to_string(root.join(name)).unwrap_or_default())).collect()
}

/// Where a part of a document comes from.
enum Part<'a> {
    /// A file, as a block of code where it has a language.
    File { language: &'a str, path: &'a str },
    /// A table of the registries.
    Table(String),
}

/// A line of a module's doc without its slashes; any other as it is.
fn bare(line: &str) -> &str {
    line.strip_prefix("//! ").unwrap_or(line).trim_end()
}

/// What a line that opens a part names: `<!-- from PATH -->`, `<!-- rust from PATH -->`, `<!-- table of axes -->`.
fn opened(line: &str) -> Option<Part<'_>> {
    let marker = bare(line).trim().strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    match marker {
        "table of axes" => return Some(Part::Table(table::axes())),
        "table of knobs" => return Some(Part::Table(table::knobs())),
        "table of presets" => return Some(Part::Table(table::presets())),
        _ => {}
    }
    let (language, path) = marker.split_once("from ")?;
    let language = language.trim();
    (language.is_empty() || language == "rust").then_some(Part::File { language, path })
}

fn closes(line: &str) -> bool {
    bare(line).trim() == "<!-- end -->"
}

/// The parts of a document with the lines that they have now.
fn parts(text: &str) -> Vec<(Part<'_>, Vec<&str>)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut parts = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if let Some(part) = opened(line) {
            parts.push((part, lines[at + 1..].iter().take_while(|line| !closes(line)).copied().collect()));
        }
    }
    parts
}

/// Whether a line is a row of the registries' table, or was before a kind was added to it.
fn is_row(line: &str, row: &str) -> bool {
    let Some((head, kinds)) = row.trim_end_matches(" |").rsplit_once(" | ") else { return line == row };
    let known: Vec<&str> = kinds.split(", ").filter(|kind| line.contains(kind)).collect();
    line == row || line == format!("{head} | {} |", known.join(", "))
}

/// What stands in a part.
fn content(root: &Path, part: &Part<'_>) -> String {
    match part {
        Part::Table(table) => table.clone(),
        Part::File { language, path } => {
            let text = fs::read_to_string(root.join(path)).unwrap_or_else(|error| format!("{path}: {error}\n"));
            if language.is_empty() { text } else { format!("```{language}\n{text}```\n") }
        }
    }
}

/// The document with every marked part replaced; in a module's doc every line of it is one.
fn filled(root: &Path, text: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        inside &= !closes(line);
        if !inside {
            out += line;
        }
        let Some(part) = opened(line) else { continue };
        inside = true;
        let doc = if line.starts_with("//! ") { "//! " } else { "" };
        out.extend(content(root, &part).split_inclusive('\n').map(|line| format!("{doc}{line}")));
    }
    out
}
