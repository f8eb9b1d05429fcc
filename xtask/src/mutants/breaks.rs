//! Changes of meaning, written by hand, that no rule of cargo-mutants makes, and the test that must fail under each.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

use super::{WORK, build::target, read, say, tree};

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
pub(super) struct Tried {
    pub(super) name: String,
    pub(super) test: String,
    pub(super) outcome: Outcome,
    /// A hash of the file with the break in it, and of what was asked.
    #[serde(default)]
    of: String,
}

/// What a test said of a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It failed.
    Noticed,
    /// It passed.
    NotNoticed,
    /// The break does not compile, or no test of that name ran: nothing was asked.
    NotAsked,
}

impl Outcome {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Noticed => "noticed",
            Self::NotNoticed => "**not noticed**",
            Self::NotAsked => "**not asked**",
        }
    }
}

const BREAKS: &str = "mutants/breaks.yaml";

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

/// Of every crate, tests included: what a test noticed may no longer be noticed when it, or what it calls, is another.
fn hash_of_crates(root: &Path) -> Result<String, String> {
    let mut all = record::PartsHash::default();
    for name in tree::tracked(root)?.into_iter().filter(|name| name.starts_with("crates/")) {
        all.add(name.as_bytes());
        all.add(&fs::read(root.join(&name)).map_err(|error| format!("{name}: {error}"))?);
    }
    Ok(all.finish())
}

/// Makes one break after the other in a copy of the tree and runs its test, but for those that it noticed before in the same text.
pub(crate) fn try_breaks(root: &Path, only: Option<&str>) -> Result<(), String> {
    let copy = root.join(WORK).join("tree");
    tree::copy(root, &copy)?;
    let outcomes = root.join(WORK).join("breaks.json");
    let before = fs::read_to_string(&outcomes).unwrap_or_else(|_| "[]".to_owned());
    let mut tried: Vec<Tried> = serde_json::from_str(&before).map_err(|error| format!("breaks.json: {error}"))?;
    let all: Vec<Break> = read(root, BREAKS)?;
    let crates = hash_of_crates(root)?;
    tried.retain(|tried| all.iter().any(|it| it.name == tried.name));
    for it in all {
        if only.is_some_and(|only| !it.name.contains(only)) {
            continue;
        }
        let text = broken(root, &it)?;
        let of = record::spec_hash(&serde_json::json!([text, it.suite, it.test, crates]));
        if tried.iter().any(|tried| tried.of == of && tried.outcome == Outcome::Noticed) {
            continue;
        }
        fs::write(copy.join(&it.file), text).map_err(|error| error.to_string())?;
        let outcome = ask(root, &copy, &it)?;
        fs::copy(root.join(&it.file), copy.join(&it.file)).map_err(|error| error.to_string())?;
        say(&format!("{:60} {}", it.name, outcome.text()));
        tried.retain(|tried| tried.name != it.name);
        tried.push(Tried { name: it.name, test: it.test, outcome, of });
        // After every one: all of them take an hour.
        let text = serde_json::to_string_pretty(&tried).map_err(|error| error.to_string())?;
        fs::write(&outcomes, text).map_err(|error| error.to_string())?;
    }
    let asked = |it: &&Tried| only.is_none_or(|only| it.name.contains(only));
    match tried.iter().filter(asked).filter(|it| it.outcome != Outcome::Noticed).count() {
        0 => Ok(()),
        count => Err(format!("{count} of {} breaks were not noticed or not asked", tried.len())),
    }
}

/// Runs the tests of a break whose names have its test's.
fn ask(root: &Path, copy: &Path, it: &Break) -> Result<Outcome, String> {
    let output = Command::new("cargo")
        .args(["test", "--release"])
        .args(it.suite.split_whitespace())
        .args(["--", &it.test])
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", target(root))
        .output()
        .map_err(|error| format!("cargo test: {error}"))?;
    let log = String::from_utf8_lossy(&output.stdout);
    let ran: Vec<&str> = log
        .lines()
        .filter(|line| line.starts_with("test ") && line.contains(&it.test) && !line.contains("... ignored"))
        .collect();
    Ok(match ran.as_slice() {
        [] => {
            let said = String::from_utf8_lossy(&output.stderr);
            let errors = said.lines().filter(|line| line.starts_with("error")).take(3).collect::<Vec<_>>();
            say(&format!("{}: no test `{}` ran {}", it.name, it.test, errors.join("; ")));
            Outcome::NotAsked
        }
        lines if lines.iter().any(|line| line.ends_with("FAILED")) => Outcome::Noticed,
        _ => Outcome::NotNoticed,
    })
}
