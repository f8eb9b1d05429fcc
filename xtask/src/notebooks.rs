//! Notebooks: each is as `just notebooks` left it, whole, executed in order from a clean kernel, without an error among its outputs.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::files::{below, read, shown};

/// Largest notebook: as small as a few pictures at screen resolution allow.
const LARGEST: usize = 512 << 10;

/// A file of nbformat 4, as far as the rules look.
#[derive(Deserialize)]
struct Notebook {
    nbformat: u32,
    cells: Vec<Cell>,
}

#[derive(Deserialize)]
#[serde(tag = "cell_type", rename_all = "lowercase")]
enum Cell {
    Markdown { source: Text },
    Code { source: Text, execution_count: Option<usize>, outputs: Vec<Value>, metadata: Value },
    Raw {},
}

/// Text, whole or in lines that keep their ends.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Whole(String),
    Lines(Vec<String>),
}

impl Text {
    fn joined(&self) -> String {
        match self {
            Self::Whole(text) => text.clone(),
            Self::Lines(lines) => lines.concat(),
        }
    }
}

/// Every broken rule of every notebook.
pub(crate) fn problems(root: &Path) -> Vec<String> {
    let notebooks = below(&root.join("notebooks"), "ipynb");
    let of = |path: &std::path::PathBuf| {
        let place = shown(root, path);
        of_text(&read(path)).into_iter().map(move |problem| format!("{place}: {problem}")).collect::<Vec<_>>()
    };
    notebooks.iter().flat_map(of).collect()
}

/// What somebody wrote in a notebook: the sources of its cells, without outputs; empty where it is no notebook.
pub(crate) fn written(text: &str) -> String {
    let notebook: Option<Notebook> = serde_json::from_str(text).ok();
    let cells = notebook.map(|notebook| notebook.cells).unwrap_or_default();
    let source = |cell: &Cell| match cell {
        Cell::Markdown { source } | Cell::Code { source, .. } => source.joined() + "\n",
        Cell::Raw {} => String::new(),
    };
    cells.iter().map(source).collect()
}

/// What is wrong with a notebook's text.
fn of_text(text: &str) -> Vec<String> {
    let notebook: Notebook = match serde_json::from_str(text) {
        Ok(notebook) => notebook,
        Err(error) => return vec![format!("is no notebook: {error}")],
    };
    let mut problems = Vec::new();
    if notebook.nbformat != 4 {
        problems.push(format!("nbformat is `{}`, not 4", notebook.nbformat));
    }
    if text.len() > LARGEST {
        problems.push(format!("{} bytes, more than {LARGEST}; draw smaller pictures", text.len()));
    }
    if !matches!(notebook.cells.first(), Some(Cell::Markdown { source }) if source.joined().starts_with("# ")) {
        problems.push("does not open with a heading; say in a first cell what it shows".to_owned());
    }
    let (mut executed, mut shows) = (0, false);
    for cell in &notebook.cells {
        let Cell::Code { execution_count, outputs, metadata, .. } = cell else { continue };
        executed += 1;
        if *execution_count != Some(executed) {
            problems.push(format!("code cell {executed} was not executed in its turn; run `just notebooks`"));
        }
        if metadata.as_object().is_none_or(|metadata| !metadata.is_empty()) {
            problems.push(format!("code cell {executed} has metadata, such as times; run `just notebooks`"));
        }
        if outputs.iter().any(|output| output["output_type"] == "error" || output["name"] == "stderr") {
            problems.push(format!("code cell {executed} has an error or a warning among its outputs"));
        }
        shows |= !outputs.is_empty();
    }
    if !shows {
        problems.push("has no outputs; run `just notebooks`".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notebook(code: &str) -> String {
        let head = r##"{"cell_type": "markdown", "metadata": {}, "source": ["# A title\n", "and a word"]}"##;
        format!(r#"{{"nbformat": 4, "nbformat_minor": 5, "metadata": {{}}, "cells": [{head}, {code}]}}"#)
    }

    fn code(count: &str, metadata: &str, outputs: &str) -> String {
        let cell =
            format!(r#""source": "x", "execution_count": {count}, "metadata": {metadata}, "outputs": [{outputs}]"#);
        format!(r#"{{"cell_type": "code", {cell}}}"#)
    }

    #[test]
    fn an_executed_notebook_has_no_problem() {
        let shown = r#"{"output_type": "stream", "name": "stdout", "text": ["1\n"]}"#;
        let text = notebook(&code("1", "{}", shown));
        assert_eq!(of_text(&text), Vec::<String>::new());
        assert_eq!(written(&text), "# A title\nand a word\nx\n");
    }

    #[test]
    fn what_just_notebooks_did_not_leave_is_named() {
        let cases = [
            (code("null", "{}", ""), "not executed in its turn"),
            (code("2", "{}", ""), "not executed in its turn"),
            (code("1", r#"{"execution": {}}"#, ""), "has metadata"),
            (code("1", "{}", r#"{"output_type": "error"}"#), "an error or a warning"),
            (code("1", "{}", r#"{"output_type": "stream", "name": "stderr"}"#), "an error or a warning"),
            (code("1", "{}", ""), "has no outputs"),
        ];
        for (cell, wanted) in cases {
            let found = of_text(&notebook(&cell));
            assert!(found.iter().any(|problem| problem.contains(wanted)), "{cell}: {found:?}");
        }
        assert!(of_text("{").concat().contains("is no notebook"));
        assert!(of_text(r#"{"nbformat": 3, "cells": []}"#).concat().contains("nbformat is `3`"));
    }
}
