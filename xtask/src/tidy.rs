//! The rules, one function each. A problem is `place: what is wrong`.

use std::path::Path;

use crate::files::{below, read, shown, stem};

/// Longest source file: past this it has more than one job.
const LONGEST: usize = 900;

/// Every broken rule under `root`.
pub(crate) fn problems(root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let mut sources = below(&root.join("crates"), "rs");
    if sources.is_empty() {
        problems.push(format!("{}: no sources here", root.join("crates").display()));
    }
    sources.extend(["examples", "xtask"].iter().flat_map(|at| below(&root.join(at), "rs")));
    for path in &sources {
        source(root, path, &mut problems);
    }
    experiments(root, &mut problems);
    readme(root, &mut problems);
    dependencies(root, &mut problems);
    model_cards(root, &mut problems);
    problems.extend(crate::edges::problems(root));
    problems.extend(crate::documents::stale(root));
    problems.extend(crate::keys::problems(root));
    problems.extend(crate::links::problems(root));
    problems.extend(crate::notebooks::problems(root));
    problems.extend(crate::unsafe_code::problems(root));
    problems.extend(crate::words::problems(root));
    problems
}

/// A file opens with what it is for, has one job, and no folder hides its module in `mod.rs`.
fn source(root: &Path, path: &Path, problems: &mut Vec<String>) {
    let (text, place) = (read(path), shown(root, path));
    if !text.starts_with("//!") {
        problems.push(format!("{place}: does not open with a module doc; say in `//!` what the file is for"));
    }
    if path.file_name().is_some_and(|name| name == "mod.rs") {
        problems.push(format!("{place}: a module's file stands beside its folder, not in it"));
    }
    if text.lines().count() > LONGEST {
        problems.push(format!("{place}: {} lines, more than {LONGEST}; split it", text.lines().count()));
    }
    for (index, line) in text.lines().enumerate() {
        if line.ends_with([' ', '\t']) {
            problems.push(format!("{place}:{}: white space at the end of the line", index + 1));
        }
    }
}

/// Every experiment can run, and its head says how.
fn experiments(root: &Path, problems: &mut Vec<String>) {
    for path in below(&root.join("experiments"), "yaml") {
        let (text, place) = (read(&path), shown(root, &path));
        if let Err(errors) = experiment::read(&text, &place, &stem(&path), &[]) {
            problems.push(errors.to_string());
        }
        for wanted in ["# Expected: ", &format!("# Run: cargo run --release -- run {place}")] {
            if !text.lines().any(|line| line.starts_with(wanted)) {
                problems.push(format!("{place}: its head has no line `{wanted}`"));
            }
        }
    }
}

/// Longest README: it leads into the guide and does not replace it.
const README: usize = 150;

/// The README is short, and what it says about a variant is what the registry says. A variant that it does not list is no problem:
/// adding one takes its own file and one line.
fn readme(root: &Path, problems: &mut Vec<String>) {
    let text = read(&root.join("README.md"));
    if text.lines().count() >= README {
        problems
            .push(format!("README.md: {} lines, but fewer than {README} lead into the guide", text.lines().count()));
    }
    let table = text.split("| variant | what it is | paper |").nth(1).unwrap_or_default();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let presets = variants::preset::all();
    for line in rows {
        let names = line.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2);
        for name in names {
            match presets.iter().find(|preset| preset.name == name) {
                None => problems.push(format!("README.md: the table of variants has `{name}`, which is not there")),
                Some(preset) if preset.paper.starts_with("arXiv:") && !line.contains(preset.paper) => {
                    problems.push(format!("README.md: the row of `{name}` does not name {}", preset.paper));
                }
                Some(_) => {}
            }
        }
    }
    if !table.contains("`lora`") {
        problems.push("README.md: no table of variants was found".to_owned());
    }
}

/// ARCHITECTURE.md gives the job of every dependency of the workspace.
fn dependencies(root: &Path, problems: &mut Vec<String>) {
    let (manifest, text) = (read(&root.join("Cargo.toml")), read(&root.join("ARCHITECTURE.md")));
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    // A dependency with a path is a crate of the workspace.
    let outside = section.lines().filter_map(|line| line.split_once(" = ")).filter(|(_, of)| !of.contains("path = "));
    for (name, _) in outside {
        let rows = text.lines().filter(|line| line.starts_with('|'));
        let listed = rows.flat_map(|line| line.split(['|', ',', ' ', '`', '(', ')'])).any(|word| word == name);
        if !listed {
            problems.push(format!("ARCHITECTURE.md: the table of dependencies has no `{name}`"));
        }
    }
}

/// Largest embedded model: what a clone of the repository should have to carry for one.
const LARGEST_MODEL: usize = 8 << 20;

/// Every embedded model's card names the file beside it, whose f16 numbers are in the millions that its size means.
fn model_cards(root: &Path, problems: &mut Vec<String>) {
    for (name, millions) in [("mini_roberta", 1..=2), ("story_roberta_128", 1..=2), ("story_roberta_256", 3..=4)] {
        let folder = root.join("crates/models/assets").join(name);
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap_or_default();
        if !read(&folder.join("CARD.md")).contains(&record::sha256_hex(&bytes)) {
            problems.push(format!("crates/models/assets/{name}/CARD.md: its hash is not that of model.safetensors"));
        }
        let header = bytes.first_chunk::<8>().map_or(0, |length| u64::from_le_bytes(*length) as usize + 8);
        let numbers = bytes.len().saturating_sub(header) / 2;
        if !(millions.start() * 1_000_000..=millions.end() * 1_000_000).contains(&numbers)
            || bytes.len() > LARGEST_MODEL
        {
            problems.push(format!("{name}/model.safetensors: {numbers} numbers in {} bytes", bytes.len()));
        }
    }
}
