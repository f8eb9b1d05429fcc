//! The rules, one function each. A problem is `place: what is wrong`.

use std::path::{Path, PathBuf};

/// Longest source file: past this it has more than one job.
const LONGEST: usize = 900;

/// Every broken rule under `root`.
pub(crate) fn problems(root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let mut sources = files(&root.join("crates"), "rs");
    if sources.is_empty() {
        problems.push(format!("{}: no sources here", root.join("crates").display()));
    }
    sources.extend(files(&root.join("xtask"), "rs"));
    for path in &sources {
        source(root, path, &mut problems);
    }
    experiments(root, &mut problems);
    readme(root, &mut problems);
    dependencies(root, &mut problems);
    card(root, &mut problems);
    problems.extend(crate::documents::stale(root));
    problems
}

/// Files below a folder with an extension, in the order of their paths; hidden folders and build outputs left out.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
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
    for path in files(&root.join("experiments"), "yaml") {
        let (text, place) = (read(&path), shown(root, &path));
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Err(errors) = trainer::experiment::read(&text, &place, &stem, &[]) {
            problems.push(errors.to_string());
        }
        for wanted in ["# Expected: ", &format!("# Run: cargo run --release -- run {place}")] {
            if !text.lines().any(|line| line.starts_with(wanted)) {
                problems.push(format!("{place}: its head has no line `{wanted}`"));
            }
        }
    }
}

/// What the README says of a variant is what the registry says. A variant that it does not list is no problem: adding one takes
/// its own file and one line.
fn readme(root: &Path, problems: &mut Vec<String>) {
    let text = read(&root.join("README.md"));
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
    let own = ["kernels", "variants", "models", "data", "trainer", "record", "analysis"];
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    for name in section.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name) {
        let rows = text.lines().filter(|line| line.starts_with('|'));
        let listed = rows.flat_map(|line| line.split(['|', ',', ' ', '`', '(', ')'])).any(|word| word == name);
        if !own.contains(&name) && !listed {
            problems.push(format!("ARCHITECTURE.md: the table of dependencies has no `{name}`"));
        }
    }
}

/// The embedded model's card names the file beside it, which has 1 to 2 million f16 numbers and fits into 4 MiB.
fn card(root: &Path, problems: &mut Vec<String>) {
    let folder = root.join("crates/models/assets/mini_roberta");
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap_or_default();
    if !read(&folder.join("CARD.md")).contains(&record::sha256_hex(&bytes)) {
        problems
            .push("crates/models/assets/mini_roberta/CARD.md: its hash is not that of model.safetensors".to_owned());
    }
    let header = bytes.first_chunk::<8>().map_or(0, |length| u64::from_le_bytes(*length) as usize + 8);
    let numbers = bytes.len().saturating_sub(header) / 2;
    if !(1_000_000..=2_000_000).contains(&numbers) || bytes.len() > 4 << 20 {
        problems.push(format!("model.safetensors: {numbers} numbers in {} bytes", bytes.len()));
    }
}
