//! What became of the mutants, one line of JSON each, written as it is known: an interrupted run goes on where it stopped.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::Mutex,
};

use record::PartsHash;
use serde::{Deserialize, Serialize};

use super::{WORK, list::Mutant, tree::tracked};

/// What became of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// A test failed.
    Noticed,
    /// A test took much longer than it does.
    OutOfTime,
    DoesNotCompile,
    /// It is in code that no test runs.
    NoTestRunsIt,
    /// Every test that runs it passed.
    Survives,
    /// Every fast test that runs it passed; the slow ones have not been asked.
    PassesTheFast,
    /// It is a program, but no running program can decide between it and the code as it is: cargo-mutants asks it.
    CannotBeSwitched,
}

/// One mutant that was asked.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Asked {
    pub(super) file: String,
    pub(super) at: String,
    pub(super) change: String,
    /// The hash of the file.
    content: String,
    /// The hash of the crate, tests included.
    tests: String,
    pub(super) outcome: Outcome,
    /// The test that noticed it.
    pub(super) test: Option<String>,
}

/// The outcomes of one crate.
pub(super) struct Outcomes {
    file: PathBuf,
    contents: BTreeMap<String, String>,
    tests: String,
    known: Mutex<BTreeMap<(String, String, String), Asked>>,
}

impl Outcomes {
    /// Those that hold for the crate as it is: what was noticed holds as long as its file is the same, what survived as long as the crate
    /// is, tests included.
    pub(super) fn of(root: &Path, package: &str) -> Result<Self, String> {
        let folder = format!("crates/{package}/");
        let (mut contents, mut all) = (BTreeMap::new(), PartsHash::default());
        for name in tracked(root)?.into_iter().filter(|name| name.starts_with(&folder)) {
            let content = fs::read(root.join(&name)).map_err(|error| format!("{name}: {error}"))?;
            all.add(name.as_bytes());
            all.add(&content);
            contents.insert(name, record::sha256_hex(&content)[..16].to_owned());
        }
        let file = root.join(WORK).join("switched").join(format!("{package}.jsonl"));
        let this = Self { file, contents, tests: all.finish()[..16].to_owned(), known: Mutex::default() };
        let text = fs::read_to_string(&this.file).unwrap_or_default();
        // The last line may be cut, where a run was interrupted.
        for asked in text.lines().filter_map(|line| serde_json::from_str::<Asked>(line).ok()) {
            if this.holds(&asked) {
                this.remember(asked);
            }
        }
        Ok(this)
    }

    fn holds(&self, asked: &Asked) -> bool {
        let by_tests = matches!(asked.outcome, Outcome::NoTestRunsIt | Outcome::Survives | Outcome::PassesTheFast);
        self.contents.get(&asked.file) == Some(&asked.content) && (!by_tests || asked.tests == self.tests)
    }

    fn remember(&self, asked: Asked) {
        let key = (asked.file.clone(), asked.at.clone(), asked.change.clone());
        self.known.lock().expect("no thread panics with it").insert(key, asked);
    }

    pub(super) fn get(&self, mutant: &Mutant) -> Option<Outcome> {
        self.known.lock().expect("no thread panics with it").get(&mutant.key()).map(|asked| asked.outcome)
    }

    pub(super) fn all(self) -> Vec<Asked> {
        self.known.into_inner().expect("no thread panics with it").into_values().collect()
    }

    /// Writes an outcome down.
    pub(super) fn put(&self, mutant: &Mutant, outcome: Outcome, test: Option<String>) -> Result<(), String> {
        let asked = Asked {
            file: mutant.file.clone(),
            at: mutant.at.clone(),
            change: mutant.change.clone(),
            content: self.contents.get(&mutant.file).cloned().unwrap_or_default(),
            tests: self.tests.clone(),
            outcome,
            test,
        };
        let line = serde_json::to_string(&asked).map_err(|error| error.to_string())? + "\n";
        self.remember(asked);
        fs::create_dir_all(self.file.parent().unwrap_or(&self.file)).map_err(|error| error.to_string())?;
        let opened = OpenOptions::new().append(true).create(true).open(&self.file);
        let written = opened.and_then(|mut file| file.write_all(line.as_bytes()));
        written.map_err(|error| format!("{}: {error}", self.file.display()))
    }
}
