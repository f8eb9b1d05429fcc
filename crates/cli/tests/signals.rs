//! What happens to a run from outside: signals, another process on the same experiment, a kill while a table is written.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

fn command(results: &Path, steps: usize) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lora-lab"));
    command
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .args(["--results", &results.display().to_string(), "run", "experiments/quick.yaml", "--workers", "2"])
        .args(["--set", &format!("train.steps={steps}"), "--set", "train.checkpoint_every=4"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Waits until the run holds the lock and something is saved, or until it has ended.
fn wait_for_work(child: &mut Child, results: &Path) {
    let holder = results.join("quick/.partial/.holder");
    let id = format!("{} ", child.id());
    let holds = || fs::read_to_string(&holder).is_ok_and(|text| text.starts_with(&id));
    let has_checkpoint = || {
        let folders = fs::read_dir(results.join("quick/.partial")).into_iter().flatten().flatten();
        folders.into_iter().any(|folder| folder.path().join("checkpoint.safetensors").is_file())
    };
    while !(holds() && has_checkpoint()) && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[track_caller]
fn ended(output: &Output, status: i32, said: &str) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{err}");
    assert!(err.contains(said), "no `{said}` in:\n{err}");
}

/// Every adapter, by its path.
fn adapters(results: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let runs = fs::read_dir(results.join("quick/runs")).unwrap().flatten();
    let mut all: Vec<_> = runs.map(|run| run.path().join("adapter.safetensors")).collect();
    all.sort();
    all.into_iter().map(|path| (path.strip_prefix(results).unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

#[test]
fn signals_save_and_say_which_they_were() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    ended(&command(whole.path(), 120).output().unwrap(), 0, "");
    for (name, status) in [("INT", 130), ("TERM", 143), ("USR1", 138)] {
        let mut child = command(parts.path(), 120).spawn().unwrap();
        wait_for_work(&mut child, parts.path());
        signal(&child, name);
        ended(&child.wait_with_output().unwrap(), status, "the same command continues where it stopped");
    }
    ended(&command(parts.path(), 120).output().unwrap(), 0, "resuming at step");
    assert_eq!(adapters(parts.path()), adapters(whole.path()));
}

#[test]
fn a_lock_names_its_holder_and_dies_with_it() {
    let results = tempfile::tempdir().unwrap();
    let mut holder = command(results.path(), 2000).spawn().unwrap();
    wait_for_work(&mut holder, results.path());
    let holding = format!("another process trains this experiment (process {} on ", holder.id());
    ended(&command(results.path(), 2000).output().unwrap(), 1, &holding);
    holder.kill().unwrap();
    holder.wait().unwrap();
    // A kill while a table was written left this, long ago: its name does not tell on which machine.
    let tables = results.path().join("quick/tables");
    fs::create_dir_all(&tables).unwrap();
    let left = tables.join(format!(".main.md.{}-76.tmp", holder.id()));
    fs::write(&left, b"half a table").unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    fs::File::options().write(true).open(&left).unwrap().set_modified(long_ago).unwrap();
    let mut next = command(results.path(), 2000).spawn().unwrap();
    while left.exists() && next.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(fs::read_dir(&tables).unwrap().count(), 0);
    // The first signal saves; a second one would not wait for that.
    signal(&next, "INT");
    ended(&next.wait_with_output().unwrap(), 130, "interrupted");
}
