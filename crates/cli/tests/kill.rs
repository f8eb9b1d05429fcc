//! `kill -9` in the middle of a cell, then the same command again: the same bits as if it had never stopped.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

fn start(results: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lora-lab"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .args(["--results", &results.display().to_string(), "run", "experiments/quick.yaml", "--workers", "2"])
        .args(["--set", "train.steps=24", "--set", "train.checkpoint_every=4"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Checkpoints of unfinished cohorts.
fn checkpoints(results: &Path) -> usize {
    let Ok(folders) = std::fs::read_dir(results.join("quick/.partial")) else { return 0 };
    folders.flatten().filter(|folder| folder.path().join("checkpoint.safetensors").is_file()).count()
}

/// Every file a finished run leaves that holds weights, in order.
fn adapters(results: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(results.join("quick/runs"))
        .unwrap()
        .flatten()
        .map(|run| run.path().join("adapter.safetensors"))
        .collect();
    files.sort();
    files
}

#[test]
fn a_killed_run_ends_at_the_same_weights() {
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert!(start(whole.path()).wait().unwrap().success());
    for _ in 0..3 {
        let mut child = start(killed.path());
        while checkpoints(killed.path()) == 0 && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
    }
    assert!(start(killed.path()).wait().unwrap().success());
    let (wanted, got) = (adapters(whole.path()), adapters(killed.path()));
    assert_eq!((wanted.len(), got.len()), (4, 4));
    for (wanted, got) in wanted.iter().zip(&got) {
        assert_eq!(std::fs::read(wanted).unwrap(), std::fs::read(got).unwrap(), "{}", got.display());
    }
    let leftover = killed.path().join("quick/.partial");
    assert_eq!(std::fs::read_dir(leftover).unwrap().count(), 0, "nothing half-done is left");
    let resumed = std::fs::read_to_string(killed.path().join("quick/runs/sst2-lora-r4-s0/record.json")).unwrap();
    assert!(resumed.contains("\"resumed_at\""), "{resumed}");
}
