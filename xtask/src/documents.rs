//! Parts of documents that come from elsewhere. Tables and examples come from files: between `<!-- from PATH -->` and
//! `<!-- end -->` is the file at `PATH`, and between `<!-- rust from PATH -->` and `<!-- end -->` the same as a block of code. The
//! guide's pages of methods come from the code's own documentation.

use std::{fs, path::Path};

use crate::methods;

/// Documents that hold tables.
const DOCUMENTS: &[&str] = &["README.md", "RESULTS.md", "bench/step.md"];

/// Puts the files' present content into the documents, and writes the guide's pages of methods.
pub(crate) fn write(root: &Path) -> std::io::Result<()> {
    for name in DOCUMENTS.iter().filter(|name| root.join(name).is_file()) {
        let path = root.join(name);
        fs::write(&path, filled(root, &fs::read_to_string(&path)?))?;
    }
    methods::write(root)
}

/// Documents whose parts are not what they come from.
pub(crate) fn stale(root: &Path) -> Vec<String> {
    let differs = |name: &&&str| {
        let text = fs::read_to_string(root.join(name)).unwrap_or_default();
        filled(root, &text) != text
    };
    let tables = DOCUMENTS
        .iter()
        .filter(differs)
        .map(|name| format!("{name}: a table is not its file; `just documents` writes it"));
    tables.chain(methods::stale(root)).collect()
}

/// The document with every marked part replaced by its file.
fn filled(root: &Path, text: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        if line.trim() == "<!-- end -->" {
            inside = false;
        }
        if !inside {
            out += line;
        }
        let Some((language, path)) = source(line) else { continue };
        inside = true;
        let text = fs::read_to_string(root.join(path)).unwrap_or_else(|error| format!("{path}: {error}\n"));
        out += &if language.is_empty() { text } else { format!("```{language}\n{text}```\n") };
    }
    out
}

/// The language and the path of a line that opens a part: `<!-- from PATH -->` or `<!-- rust from PATH -->`.
fn source(line: &str) -> Option<(&str, &str)> {
    let (language, path) = line.trim().strip_prefix("<!-- ")?.strip_suffix(" -->")?.split_once("from ")?;
    let language = language.trim();
    (language.is_empty() || language == "rust").then_some((language, path))
}
