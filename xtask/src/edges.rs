//! The dependency edges between the crates of the workspace: ARCHITECTURE.md's code map names all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::files::read;

/// Crates to the crates of the workspace that they use.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// Edges that the code map lacks, or that no manifest has.
pub(crate) fn problems(root: &Path) -> Vec<String> {
    let (built, drawn) = (of_manifests(root), of_code_map(&read(&root.join("ARCHITECTURE.md"))));
    let mut problems = Vec::new();
    for (name, uses) in &built {
        let Some(row) = drawn.get(name) else {
            problems.push(format!("ARCHITECTURE.md: the code map has no row for `{name}`"));
            continue;
        };
        for other in uses.difference(row) {
            problems.push(format!("ARCHITECTURE.md: `{name}` uses `{other}`; give the edge its place in the code map"));
        }
        for other in row.difference(uses) {
            problems.push(format!("ARCHITECTURE.md: `{name}` does not use `{other}`; take it out of the code map"));
        }
    }
    problems.extend(
        drawn
            .keys()
            .filter(|name| !built.contains_key(*name))
            .map(|name| format!("ARCHITECTURE.md: the code map has `{name}`, which is no crate of the workspace")),
    );
    problems
}

/// What every crate's `[dependencies]` have of the workspace's own crates.
fn of_manifests(root: &Path) -> Edges {
    let folders = std::fs::read_dir(root.join("crates")).into_iter().flatten().flatten().map(|entry| entry.path());
    let manifests =
        folders.chain([root.join("examples"), root.join("xtask")]).filter(|folder| folder.join("Cargo.toml").is_file());
    let name = |folder: &Path| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let texts: Vec<_> = manifests.map(|folder| (name(&folder), read(&folder.join("Cargo.toml")))).collect();
    let own: BTreeSet<&str> = texts.iter().map(|(name, _)| name.as_str()).collect();
    let uses = |text: &str| {
        let section = text.split("\n[dependencies]\n").nth(1).unwrap_or_default();
        let lines = section.lines().take_while(|line| !line.starts_with('['));
        let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
        names.filter(|name| own.contains(name)).map(str::to_owned).collect()
    };
    texts.iter().map(|(name, text)| (name.clone(), uses(text))).collect()
}

/// What the column `uses` of the code map says.
fn of_code_map(text: &str) -> Edges {
    let table = text.split("| crate | job | uses |").nth(1).unwrap_or_default();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let name = cells.get(1).map(|cell| quoted(cell)).unwrap_or_default();
        (name.concat(), cells.get(3).map(|cell| quoted(cell)).unwrap_or_default().into_iter().collect())
    })
    .collect()
}
