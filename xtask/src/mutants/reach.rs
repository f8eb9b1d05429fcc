//! Which test runs which mutants, and how long it takes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::Value;

use super::{build::Crate, say, switch::REACHED};

/// One test of a crate.
pub(super) struct Test {
    binary: PathBuf,
    folder: PathBuf,
    /// The binary's target and the test.
    pub(super) name: String,
    path: String,
    pub(super) time: Duration,
    /// The numbers of the sites that it runs.
    pub(super) sites: BTreeSet<u32>,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Passed,
    Failed,
    OutOfTime,
}

/// Tests that are not asked, from `mutants/left_out.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LeftOut {
    package: String,
    /// A test target, or `TARGET::TEST`.
    test: String,
    #[expect(dead_code, reason = "for people")]
    reason: String,
}

/// Memory in KiB that a test may ask for: a mutant that asks for all of it is noticed and does not take the machine with it.
const MEMORY: u32 = 8 << 20;

/// How much longer than its limit a test may take that does not compute.
const PATIENCE: u32 = 10;

/// A processor time of a process, where the system tells by `/proc`: two fields of its `stat`, in hundredths of a second. They are counted
/// behind its name: from 11 on its own, from 13 on that of its children which have ended.
fn ticks(process: &str, first: usize) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields = stat.rsplit(')').next()?.split_whitespace().skip(first).take(2);
    let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap_or_default()).sum();
    Some(Duration::from_millis(10 * ticks))
}

impl Test {
    /// Runs the test alone, with variables of the environment, for at most `limit`.
    pub(super) fn run(&self, variable: (&str, &str), limit: Duration) -> Result<End, String> {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\"")]).arg(&self.binary);
        command.args(["--exact", &self.path, "--test-threads", "1"]).current_dir(&self.folder);
        command.env("CARGO_MANIFEST_DIR", &self.folder).env(variable.0, variable.1);
        // A failure under a mutant is no case to keep.
        command.env("INSTA_UPDATE", "no").env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", self.name))?;
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                return Ok(if status.success() { End::Passed } else { End::Failed });
            }
            // On a busy machine a test waits for its turn, which is nobody's fault; one that sleeps for ever is.
            let worked = ticks(&child.id().to_string(), 11).unwrap_or_else(|| start.elapsed());
            if worked > limit || start.elapsed() > limit * PATIENCE {
                child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
                return Ok(End::OutOfTime);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// Builds the crate's tests and runs each alone, the fastest first. Those that fail without any mutant are named and left out.
pub(super) fn tests(krate: &Crate, left_out: &[LeftOut]) -> Result<Vec<Test>, String> {
    let mut tests = built(krate)?;
    let out = |test: &Test| {
        let here = left_out.iter().filter(|it| it.package == krate.package);
        here.into_iter().any(|it| test.name == it.test || test.name.starts_with(&format!("{}::", it.test)))
    };
    tests.retain(|test| !out(test));
    let file = krate.tree.with_file_name("reached");
    let mut failed = Vec::new();
    for test in &mut tests {
        let _ = fs::remove_file(&file);
        let (start, before) = (Instant::now(), ticks("self", 13));
        let end = test.run((REACHED, &file.to_string_lossy()), Duration::from_mins(10))?;
        // The processor time of the children that have ended.
        let worked = ticks("self", 13).zip(before).map(|(after, before)| after.saturating_sub(before));
        test.time = worked.unwrap_or_else(|| start.elapsed());
        test.sites = crate::files::read(&file).lines().filter_map(|line| line.parse().ok()).collect();
        if end != End::Passed {
            failed.push(test.name.clone());
        }
    }
    if !failed.is_empty() {
        say(&format!("{}: without any mutant fail {}", krate.package, failed.join(", ")));
    }
    tests.retain(|test| !failed.contains(&test.name));
    tests.sort_by_key(|test| test.time);
    let whole: Duration = tests.iter().map(|test| test.time).sum();
    say(&format!("{}: {} tests, {} s one after the other", krate.package, tests.len(), whole.as_secs()));
    for slow in tests.iter().rev().take(5).filter(|test| test.time > Duration::from_secs(5)) {
        say(&format!("{}: {} s for {}", krate.package, slow.time.as_secs(), slow.name));
    }
    Ok(tests)
}

/// The tests of the crate's library and of its folder `tests`, but for ignored ones.
fn built(krate: &Crate) -> Result<Vec<Test>, String> {
    let output = krate.cargo("test").args(["--no-run", "--tests", "--message-format=json"]).output();
    let output = output.map_err(|error| format!("cargo test: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo test: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    let mut tests = Vec::new();
    for message in lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(binary) = message["executable"].as_str() else { continue };
        let target = message["target"]["name"].as_str().unwrap_or_default();
        let target = if message["target"]["kind"][0] == "lib" { "lib" } else { target };
        let ignored = names(Path::new(binary), &["--ignored"])?;
        for test in names(Path::new(binary), &[])?.into_iter().filter(|test| !ignored.contains(test)) {
            tests.push(Test {
                binary: PathBuf::from(binary),
                folder: krate.tree.join("crates").join(&krate.package),
                name: format!("{target}::{test}"),
                path: test,
                time: Duration::ZERO,
                sites: BTreeSet::new(),
            });
        }
    }
    Ok(tests)
}

fn names(binary: &Path, more: &[&str]) -> Result<Vec<String>, String> {
    let output = Command::new(binary).args(["--list", "--format", "terse"]).args(more).output();
    let output = output.map_err(|error| format!("{}: {error}", binary.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}
