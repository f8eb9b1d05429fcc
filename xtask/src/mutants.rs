//! Does a test notice when the code is wrong? `just mutants` asks twice: cargo-mutants changes operators, returns and match arms
//! by rule; `mutants/breaks.yaml` lists the changes of meaning that no rule makes. This module makes those breaks, and writes what both
//! found to `mutants/results.md`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::below;

/// A change of meaning, written by hand, and the test that must fail under it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Break {
    /// What is wrong afterwards.
    name: String,
    /// The file, from the root of the workspace.
    file: PathBuf,
    /// What it says today; once in the file.
    old: String,
    /// What it says afterwards.
    new: String,
    /// Arguments of `cargo test` that build the test.
    suite: String,
    /// The test.
    test: String,
}

/// What became of a break.
#[derive(Debug, Deserialize, Serialize)]
struct Tried {
    name: String,
    test: String,
    outcome: Outcome,
}

/// What a test said of a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// It failed.
    Noticed,
    /// It passed.
    NotNoticed,
    /// The break does not compile, or no test of that name ran: nothing was asked.
    NotAsked,
}

impl Outcome {
    fn text(self) -> &'static str {
        match self {
            Self::Noticed => "noticed",
            Self::NotNoticed => "**not noticed**",
            Self::NotAsked => "**not asked**",
        }
    }
}

/// A mutant that no test can notice, since the program stays the same.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Equivalent {
    /// The file, from the root of the workspace.
    file: String,
    /// The change in the words of cargo-mutants, such as `replace > with >= in allocate`.
    change: String,
    /// The line that it changes, trimmed.
    line: String,
    /// Why the program stays the same.
    reason: String,
}

/// One mutant of cargo-mutants.
struct Mutant {
    file: String,
    change: String,
    line: String,
    outcome: String,
}

const BREAKS: &str = "mutants/breaks.yaml";
const EQUIVALENT: &str = "mutants/equivalent.yaml";
const RESULTS: &str = "mutants/results.md";
const WORK: &str = "target/mutants";

fn read<T: for<'a> Deserialize<'a>>(root: &Path, name: &str) -> Result<T, String> {
    let text = fs::read_to_string(root.join(name)).map_err(|error| format!("{name}: {error}"))?;
    serde_yaml::from_str(&text).map_err(|error| format!("{name}: {error}"))
}

/// Every break whose old text is not in its file exactly once, or whose test is not in the tree.
pub(crate) fn stale(root: &Path) -> Vec<String> {
    match read::<Vec<Break>>(root, BREAKS) {
        Ok(breaks) => breaks.iter().filter_map(|it| broken(root, it).err()).collect(),
        Err(problem) => vec![problem],
    }
}

/// The file with the break in it.
fn broken(root: &Path, it: &Break) -> Result<String, String> {
    let file = it.file.display();
    let text = fs::read_to_string(root.join(&it.file)).map_err(|error| format!("{BREAKS}: {file}: {error}"))?;
    match text.matches(&it.old).count() {
        1 if it.old != it.new => Ok(text.replace(&it.old, &it.new)),
        1 => Err(format!("{BREAKS}: `{}` changes nothing", it.name)),
        count => Err(format!("{BREAKS}: `{}`: its old text is {count} times in {file}, not once", it.name)),
    }
}

/// Makes one break after the other in a copy of the tree and runs its test.
pub(crate) fn try_breaks(root: &Path, only: Option<&str>) -> Result<(), String> {
    let copy = root.join(WORK).join("tree");
    copy_tree(root, &copy)?;
    let mut tried = Vec::new();
    for it in read::<Vec<Break>>(root, BREAKS)? {
        if only.is_some_and(|only| !it.name.contains(only)) {
            continue;
        }
        let text = broken(root, &it)?;
        fs::write(copy.join(&it.file), text).map_err(|error| error.to_string())?;
        let outcome = ask(&copy, &it)?;
        fs::copy(root.join(&it.file), copy.join(&it.file)).map_err(|error| error.to_string())?;
        say(&format!("{:60} {}", it.name, outcome.text()));
        tried.push(Tried { name: it.name, test: it.test, outcome });
    }
    let text = serde_json::to_string_pretty(&tried).map_err(|error| error.to_string())?;
    fs::write(root.join(WORK).join("breaks.json"), text).map_err(|error| error.to_string())?;
    match tried.iter().filter(|it| it.outcome != Outcome::Noticed).count() {
        0 => Ok(()),
        count => Err(format!("{count} of {} breaks were not noticed or not asked", tried.len())),
    }
}

/// Copies the tracked files.
fn copy_tree(root: &Path, copy: &Path) -> Result<(), String> {
    if copy.exists() {
        fs::remove_dir_all(copy).map_err(|error| error.to_string())?;
    }
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    let listed = listed.map_err(|error| format!("git ls-files: {error}"))?;
    for name in String::from_utf8_lossy(&listed.stdout).split('\0').filter(|name| !name.is_empty()) {
        let to = copy.join(name);
        let folder = to.parent().unwrap_or(copy);
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        fs::copy(root.join(name), to).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// A copy of the tree for cargo-mutants, which follows `mod` lines and expands no macro: the files of the registries are named at the end
/// of their module, where no compilation sees it.
pub(crate) fn tree(root: &Path) -> Result<(), String> {
    let copy = root.join(WORK).join("tree");
    copy_tree(root, &copy)?;
    for path in below(&copy.join("crates"), "rs") {
        let mut text = crate::files::read(&path);
        let inner = fs::read_dir(path.with_extension("")).into_iter().flatten().flatten();
        let names = inner.filter_map(|entry| Some(entry.path().file_name()?.to_str()?.strip_suffix(".rs")?.to_owned()));
        let unnamed: Vec<String> = names.filter(|name| !text.contains(&format!("mod {name};"))).collect();
        for name in &unnamed {
            text.push_str(&format!("#[cfg(any())]\nmod {name};\n"));
        }
        if !unnamed.is_empty() {
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// Runs the tests of a break whose names have its test's.
fn ask(copy: &Path, it: &Break) -> Result<Outcome, String> {
    // Its dependencies are those of the tree that it copies.
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| copy.join("../.."), PathBuf::from);
    let output = Command::new("cargo")
        .args(["test", "--release"])
        .args(it.suite.split_whitespace())
        .args(["--", &it.test])
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .map_err(|error| format!("cargo test: {error}"))?;
    let log = String::from_utf8_lossy(&output.stdout);
    let ran: Vec<&str> = log
        .lines()
        .filter(|line| line.starts_with("test ") && line.contains(&it.test) && !line.contains("... ignored"))
        .collect();
    Ok(match ran.as_slice() {
        [] => Outcome::NotAsked,
        lines if lines.iter().any(|line| line.ends_with("FAILED")) => Outcome::Noticed,
        _ => Outcome::NotNoticed,
    })
}

/// Writes the table of what cargo-mutants and the breaks found.
pub(crate) fn report(root: &Path) -> Result<(), String> {
    let made = listed(root)?;
    let mut mutants = Vec::new();
    for file in outcomes(&root.join(WORK)) {
        mutants.extend(ran(root, &file)?);
    }
    let equivalent: Vec<Equivalent> = read(root, EQUIVALENT)?;
    let tried = fs::read_to_string(root.join(WORK).join("breaks.json")).unwrap_or_else(|_| "[]".to_owned());
    let tried: Vec<Tried> = serde_json::from_str(&tried).map_err(|error| format!("breaks.json: {error}"))?;
    let text = page(&made, &mutants, &equivalent, &tried);
    fs::write(root.join(RESULTS), text).map_err(|error| format!("{RESULTS}: {error}"))?;
    match mutants.iter().filter(|it| it.outcome == "MissedMutant" && reason(&equivalent, it).is_none()).count() {
        0 => Ok(()),
        open => Err(format!("{open} mutants survive: {RESULTS} lists them")),
    }
}

/// How many mutants there are, by area.
fn listed(root: &Path) -> Result<BTreeMap<String, usize>, String> {
    let output = Command::new("cargo")
        .args(["mutants", "--workspace", "--list", "--json"])
        .current_dir(root.join(WORK).join("tree"))
        .output();
    let output = output.map_err(|error| format!("cargo mutants: {error}"))?;
    let list: Vec<Value> = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("cargo mutants --list: {error}; {}", String::from_utf8_lossy(&output.stderr)))?;
    let mut made = BTreeMap::new();
    for mutant in &list {
        *made.entry(area(text(mutant, "file"))).or_default() += 1;
    }
    Ok(made)
}

/// The files of outcomes, of every shard.
fn outcomes(folder: &Path) -> Vec<PathBuf> {
    let shards = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = shards.map(|shard| shard.path().join("mutants.out/outcomes.json")).collect();
    files.retain(|file| file.exists());
    files.sort();
    files
}

fn ran(root: &Path, file: &Path) -> Result<Vec<Mutant>, String> {
    let content = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let content: Value = serde_json::from_slice(&content).map_err(|error| format!("{}: {error}", file.display()))?;
    let all = content["outcomes"].as_array().into_iter().flatten();
    Ok(all
        .filter_map(|outcome| {
            let mutant = outcome["scenario"].get("Mutant")?;
            let file = text(mutant, "file").to_owned();
            // `FILE:LINE:COLUMN: CHANGE`
            let change = text(mutant, "name").splitn(4, ':').nth(3).unwrap_or_default().trim().to_owned();
            let at = mutant["span"]["start"]["line"].as_u64().unwrap_or_default() as usize;
            let source = fs::read_to_string(root.join(&file)).unwrap_or_default();
            let line = source.lines().nth(at.saturating_sub(1)).unwrap_or_default().trim().to_owned();
            Some(Mutant { file, change, line, outcome: text(outcome, "summary").to_owned() })
        })
        .collect())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// `crates/variants/src/delta/low_rank.rs` is in `variants/delta`.
fn area(file: &str) -> String {
    let mut parts = file.split('/').filter(|part| !["crates", "src"].contains(part));
    let (krate, module) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{krate}/{}", module.trim_end_matches(".rs"))
}

fn reason<'a>(equivalent: &'a [Equivalent], mutant: &Mutant) -> Option<&'a str> {
    let same = |it: &&Equivalent| it.file == mutant.file && it.change == mutant.change && it.line == mutant.line;
    equivalent.iter().find(same).map(|it| it.reason.as_str())
}

fn page(made: &BTreeMap<String, usize>, mutants: &[Mutant], equivalent: &[Equivalent], tried: &[Tried]) -> String {
    let mut page = "# Mutants\n\n`just mutants` writes this page. A mutant is the program with one change; a test should notice it. \
        What the column `run` does not count has not been asked yet.\n\n\
        | area | mutants | run | noticed | ran out of time | do not compile | equivalent | survive |\n\
        |---|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    let mut total = [0; 7];
    for (name, made) in made {
        let here = || mutants.iter().filter(|it| area(&it.file) == *name);
        let of = |outcome: &str| here().filter(|it| it.outcome == outcome).count();
        let same = here().filter(|it| it.outcome == "MissedMutant" && reason(equivalent, it).is_some()).count();
        let missed = of("MissedMutant");
        let row = [*made, here().count(), of("CaughtMutant"), of("Timeout"), of("Unviable"), same, missed - same];
        total.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
        page.push_str(&line(name, &row));
    }
    page.push_str(&line("all", &total));
    let survivors: Vec<&Mutant> = mutants.iter().filter(|it| it.outcome == "MissedMutant").collect();
    if !survivors.is_empty() {
        page.push_str("\n## Survivors\n\n| file | change | line | why it is the same program |\n|---|---|---|---|\n");
    }
    for it in survivors {
        let reason = reason(equivalent, it).unwrap_or("**open**");
        let code = it.line.replace('|', "\\|");
        page.push_str(&format!("| {} | {} | `{code}` | {reason} |\n", it.file, it.change.replace('|', "\\|")));
    }
    if !tried.is_empty() {
        page.push_str("\n## Breaks by hand\n\n| break | test | |\n|---|---|---|\n");
    }
    for it in tried {
        page.push_str(&format!("| {} | `{}` | {} |\n", it.name, it.test, it.outcome.text()));
    }
    page
}

fn line(name: &str, counts: &[usize; 7]) -> String {
    let counts = counts.map(|count| count.to_string());
    format!("| {name} | {} |\n", counts.join(" | "))
}

#[expect(clippy::print_stderr, reason = "a task speaks to the person who runs it")]
fn say(text: &str) {
    eprintln!("{text}");
}
