//! The mutants: cargo-mutants decides what is changed.

use std::{collections::BTreeMap, ops::Range, path::Path, process::Command};

use serde_json::Value;

/// One change of one place.
#[derive(Clone, Debug)]
pub(super) struct Mutant {
    pub(super) package: String,
    /// The file, from the root of the workspace.
    pub(super) file: String,
    /// `LINE:COLUMN` of the changed text.
    pub(super) at: String,
    /// The change in the words of cargo-mutants.
    pub(super) change: String,
    pub(super) genre: Genre,
    pub(super) replacement: String,
    /// The bytes of the file that the replacement takes the place of.
    pub(super) span: Range<usize>,
    /// The bytes of the function around it.
    pub(super) function: Option<Range<usize>>,
    /// Whether that function returns `impl Trait`: two `return`s cannot have two types.
    pub(super) returns_impl: bool,
}

impl Mutant {
    /// File, place and change.
    pub(super) fn key(&self) -> (String, String, String) {
        (self.file.clone(), self.at.clone(), self.change.clone())
    }

    /// The line of the file, counted from 1.
    pub(super) fn line(&self) -> usize {
        self.at.split(':').next().and_then(|line| line.parse().ok()).unwrap_or(1)
    }
}

/// What kind of text is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Genre {
    FnValue,
    BinaryOperator,
    UnaryOperator,
    MatchArm,
    MatchArmGuard,
    StructField,
    /// A genre that a later cargo-mutants has.
    Unknown,
}

impl Genre {
    fn named(name: &str) -> Self {
        match name {
            "FnValue" => Self::FnValue,
            "BinaryOperator" => Self::BinaryOperator,
            "UnaryOperator" => Self::UnaryOperator,
            "MatchArm" => Self::MatchArm,
            "MatchArmGuard" => Self::MatchArmGuard,
            "StructField" => Self::StructField,
            _ => Self::Unknown,
        }
    }
}

/// All mutants of a copy of the tree, in the order of the list.
pub(super) fn mutants(tree: &Path) -> Result<Vec<Mutant>, String> {
    let output = Command::new("cargo").args(["mutants", "--workspace", "--list", "--json"]).current_dir(tree).output();
    let output = output.map_err(|error| format!("cargo mutants: {error}"))?;
    let list: Vec<Value> = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("cargo mutants --list: {error}; {}", String::from_utf8_lossy(&output.stderr)))?;
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    list.iter()
        .map(|value| {
            let file = text(value, "file");
            let content = files.entry(file.to_owned()).or_insert_with(|| crate::files::read(&tree.join(file)));
            mutant(value, content)
                .ok_or_else(|| format!("cargo mutants --list: `{}` is not understood", text(value, "name")))
        })
        .collect()
}

fn mutant(value: &Value, content: &str) -> Option<Mutant> {
    let (at, change) = place(text(value, "name"))?;
    let function = &value["function"];
    Some(Mutant {
        package: text(value, "package").to_owned(),
        file: text(value, "file").to_owned(),
        at,
        change,
        genre: Genre::named(text(value, "genre")),
        replacement: text(value, "replacement").to_owned(),
        span: bytes(content, &value["span"])?,
        function: if function.is_null() { None } else { Some(bytes(content, &function["span"])?) },
        returns_impl: text(function, "return_type").contains("impl "),
    })
}

/// `FILE:LINE:COLUMN: CHANGE` as `LINE:COLUMN` and the change.
pub(super) fn place(name: &str) -> Option<(String, String)> {
    let mut parts = name.splitn(4, ':').skip(1);
    let (line, column, change) = (parts.next()?, parts.next()?, parts.next()?);
    Some((format!("{line}:{column}"), change.trim().to_owned()))
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Lines and columns, which count characters from 1, as bytes.
fn bytes(content: &str, span: &Value) -> Option<Range<usize>> {
    let offset = |at: &Value| {
        let (line, column) = (at["line"].as_u64()? as usize, at["column"].as_u64()? as usize);
        let start: usize = content.split_inclusive('\n').take(line - 1).map(str::len).sum();
        let within = content[start..].char_indices().map(|(at, _)| at).chain([content.len() - start]);
        Some(start + within.take(column).last()?)
    };
    Some(offset(&span["start"])?..offset(&span["end"])?)
}
