//! Signals that ask a process to stop: it saves, says so by its exit status, and goes on later.

use std::process::Command;

use crate::{
    count,
    outcome::{assert_same, whole},
    scratch::{Scratch, failed_well},
};

/// Sends a signal to a `run` that has a checkpoint, and holds it to its exit status.
fn stopped_by(signal: &str, status: i32) {
    for _ in 0..count(1, 5) {
        let scratch = Scratch::new();
        let mut child = scratch.start("run");
        scratch.await_checkpoint(&mut child);
        let id = child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        failed_well(&output, &[status]);
        whole(&scratch.results());
        assert!(!scratch.unfinished("checkpoint.safetensors").is_empty(), "what it did is saved");
        scratch.finish();
        assert_same(&scratch.results(), signal);
    }
}

#[test]
fn ctrl_c_saves_and_ends_with_130() {
    stopped_by("INT", 130);
}

#[test]
fn sigterm_saves_and_ends_with_143() {
    stopped_by("TERM", 143);
}
