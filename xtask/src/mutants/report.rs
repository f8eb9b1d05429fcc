//! Writes `mutants/results.md`: what became of the mutants, by area, and the table of those that survive.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use super::{
    WORK,
    breaks::Tried,
    list::{Mutant, mutants, place, text},
    outcomes::{Outcome, Outcomes},
    read,
};

/// A mutant that no test can notice, since the program stays the same.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Equivalent {
    /// The file, from the root of the workspace.
    file: String,
    /// The change in the words of cargo-mutants, such as `replace > with >= in allocate`.
    change: String,
    /// The line that it changes, trimmed.
    line: String,
    /// Why the program stays the same.
    reason: String,
}

/// The mutants that are the same program.
pub(super) fn equivalent(root: &Path) -> Result<Vec<Equivalent>, String> {
    read(root, EQUIVALENT)
}

impl Equivalent {
    /// Whether this is about a mutant, of whose line it has the text.
    pub(super) fn is(&self, mutant: &Mutant, line: &str) -> bool {
        (self.file.as_str(), self.change.as_str(), self.line.as_str()) == (&mutant.file, &mutant.change, line)
    }
}

/// A mutant of the list and what became of it; nothing where it has not been asked.
struct Row<'a> {
    mutant: &'a Mutant,
    line: String,
    outcome: Option<Outcome>,
    /// Why it is the same program.
    same: Option<&'a str>,
}

impl Row<'_> {
    fn is(&self, outcome: Outcome) -> bool {
        self.outcome == Some(outcome)
    }

    /// Whether no test noticed it.
    fn left(&self) -> bool {
        [Outcome::Survives, Outcome::PassesTheFast, Outcome::NoTestRunsIt].map(Some).contains(&self.outcome)
    }
}

/// File, place and change to the outcome.
pub(super) type Known = BTreeMap<(String, String, String), Outcome>;

const EQUIVALENT: &str = "mutants/equivalent.yaml";
const RESULTS: &str = "mutants/results.md";

/// Writes the table of what the mutants and the breaks found.
pub(super) fn report(root: &Path) -> Result<(), String> {
    let tree = root.join(WORK).join("tree");
    super::tree::with_modules(root, &tree)?;
    let list = mutants(&tree)?;
    let known = known(root, &list)?;
    let equivalent = equivalent(root)?;
    let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let rows: Vec<Row> = list
        .iter()
        .map(|mutant| {
            let source =
                || crate::files::read(&root.join(&mutant.file)).lines().map(|it| it.trim().to_owned()).collect();
            let source = lines.entry(&mutant.file).or_insert_with(source);
            let line = source.get(mutant.line() - 1).cloned().unwrap_or_default();
            let same = equivalent.iter().find(|it| it.is(mutant, &line));
            let outcome = known.get(&mutant.key()).copied();
            Row { mutant, line, outcome, same: same.map(|it| it.reason.as_str()) }
        })
        .collect();
    let tried = fs::read_to_string(root.join(WORK).join("breaks.json")).unwrap_or_else(|_| "[]".to_owned());
    let tried: Vec<Tried> = serde_json::from_str(&tried).map_err(|error| format!("breaks.json: {error}"))?;
    fs::write(root.join(RESULTS), page(&rows, &tried)).map_err(|error| format!("{RESULTS}: {error}"))?;
    match rows.iter().filter(|row| row.left() && row.same.is_none()).count() {
        0 => Ok(()),
        open => Err(format!("{open} mutants survive: {RESULTS} lists them")),
    }
}

/// What is known of the mutants: from the switches, and for the others from cargo-mutants itself.
pub(super) fn known(root: &Path, list: &[Mutant]) -> Result<Known, String> {
    let mut known = Known::new();
    for file in outcomes(&root.join(WORK)) {
        known.extend(by_cargo_mutants(&file)?);
    }
    let mut packages: Vec<&str> = list.iter().map(|mutant| mutant.package.as_str()).collect();
    packages.dedup();
    for package in packages {
        for asked in Outcomes::of(root, package)?.all() {
            let key = (asked.file, asked.at, asked.change);
            if asked.outcome != Outcome::CannotBeSwitched || !known.contains_key(&key) {
                known.insert(key, asked.outcome);
            }
        }
    }
    Ok(known)
}

/// The files of cargo-mutants' own outcomes, of every shard.
fn outcomes(folder: &Path) -> Vec<PathBuf> {
    let shards = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = shards.map(|shard| shard.path().join("mutants.out/outcomes.json")).collect();
    files.retain(|file| file.exists());
    files.sort();
    files
}

fn by_cargo_mutants(file: &Path) -> Result<Known, String> {
    let content = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let content: Value = serde_json::from_slice(&content).map_err(|error| format!("{}: {error}", file.display()))?;
    let all = content["outcomes"].as_array().into_iter().flatten();
    Ok(all
        .filter_map(|outcome| {
            let mutant = outcome["scenario"].get("Mutant")?;
            let (at, change) = place(text(mutant, "name"))?;
            let became = match text(outcome, "summary") {
                "CaughtMutant" => Outcome::Noticed,
                "Timeout" => Outcome::OutOfTime,
                "Unviable" => Outcome::DoesNotCompile,
                "MissedMutant" => Outcome::Survives,
                _ => return None,
            };
            Some(((text(mutant, "file").to_owned(), at, change), became))
        })
        .collect())
}

/// `crates/variants/src/delta/low_rank.rs` is in `variants/delta`.
fn area(file: &str) -> String {
    let mut parts = file.split('/').filter(|part| !["crates", "src"].contains(part));
    let (krate, module) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{krate}/{}", module.trim_end_matches(".rs"))
}

const HEAD: &str = "# Mutants

`just mutants` writes this page. A mutant is the program with one change; a test should notice it. What the column `run` does not count has
not been asked yet; what cannot be switched while the program runs waits for cargo-mutants, which compiles each alone.

| area | mutants | run | noticed | ran out of time | do not compile | equivalent | no test runs it | survive | not switched |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
";

fn page(rows: &[Row], tried: &[Tried]) -> String {
    let mut page = HEAD.to_owned();
    let mut areas: BTreeMap<String, [usize; 9]> = BTreeMap::new();
    for row in rows {
        let counts = areas.entry(area(&row.mutant.file)).or_default();
        let open = row.left() && row.same.is_none();
        let cells = [
            true,
            row.outcome.is_some_and(|outcome| outcome != Outcome::CannotBeSwitched),
            row.is(Outcome::Noticed),
            row.is(Outcome::OutOfTime),
            row.is(Outcome::DoesNotCompile),
            row.left() && row.same.is_some(),
            open && row.is(Outcome::NoTestRunsIt),
            open && !row.is(Outcome::NoTestRunsIt),
            row.is(Outcome::CannotBeSwitched),
        ];
        counts.iter_mut().zip(cells).for_each(|(count, cell)| *count += usize::from(cell));
    }
    let mut total = [0; 9];
    for (name, counts) in &areas {
        total.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        page.push_str(&line(name, counts));
    }
    page.push_str(&line("all", &total));
    page.push_str(&survivors(rows));
    if !tried.is_empty() {
        page.push_str("\n## Breaks by hand\n\n| break | test | |\n|---|---|---|\n");
    }
    for it in tried {
        page.push_str(&format!("| {} | `{}` | {} |\n", it.name, it.test, it.outcome.text()));
    }
    page
}

/// The table of the mutants that no test noticed.
fn survivors(rows: &[Row]) -> String {
    let left: Vec<&Row> = rows.iter().filter(|row| row.left()).collect();
    if left.is_empty() {
        return String::new();
    }
    let mut page =
        "\n## Survivors\n\n| file | change | line | why it is the same program |\n|---|---|---|---|\n".to_owned();
    for row in left {
        let open = match row.outcome {
            Some(Outcome::NoTestRunsIt) => "**open**: no test runs it",
            Some(Outcome::PassesTheFast) => "**open**: the slow tests have not been asked",
            _ => "**open**",
        };
        let (reason, bar) = (row.same.unwrap_or(open), |text: &str| text.replace('|', "\\|"));
        page.push_str(&format!(
            "| {} | {} | `{}` | {reason} |\n",
            row.mutant.file,
            bar(&row.mutant.change),
            bar(&row.line)
        ));
    }
    page
}

fn line(name: &str, counts: &[usize; 9]) -> String {
    let counts = counts.map(|count| count.to_string());
    format!("| {name} | {} |\n", counts.join(" | "))
}
