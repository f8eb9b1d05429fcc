//! Signals that ask a process to stop: it saves, says so by its exit status, and goes on later.

use crate::{
    count,
    outcome::{assert_same, whole},
    scratch::{Scratch, failed_well, said, signal},
};

/// Sends a signal to a `run` that has a checkpoint, and holds it to its exit status.
fn stopped_by(name: &str, status: i32) {
    for _ in 0..count(1, 5) {
        let scratch = Scratch::new();
        let child = scratch.at_checkpoint();
        signal(&child, name);
        signal(&child, "CONT");
        let output = child.wait_with_output().unwrap();
        failed_well(&output, &[status]);
        let wanted = "the same command continues where it stopped";
        assert!(said(&output).contains(wanted), "{}", said(&output));
        whole(&scratch.results());
        assert!(!scratch.unfinished("checkpoint.safetensors").is_empty(), "what it did is saved");
        let next = scratch.output("run");
        assert!(next.status.success() && said(&next).contains("resuming at step"), "{}", said(&next));
        assert_same(&scratch.results(), name);
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

#[test]
fn sigusr1_saves_and_ends_with_138() {
    stopped_by("USR1", 138);
}

/// Tries of a second signal: where two threads take the two signals at the same moment, both are first ones.
const TRIES: usize = 10;

/// A second signal does not wait for the step that runs: the process ends at once, and what the first had not saved is trained again.
#[test]
fn a_second_signal_ends_at_once() {
    for (first, second, statuses) in [("INT", "TERM", [130, 143]), ("USR1", "TERM", [138, 143])] {
        let at_once = |_| {
            let scratch = Scratch::new();
            let child = scratch.at_checkpoint();
            // Both wait for the stopped process; which of them it sees first is the system's choice.
            signal(&child, first);
            signal(&child, second);
            signal(&child, "CONT");
            let output = child.wait_with_output().unwrap();
            assert!(output.status.code().is_some_and(|code| statuses.contains(&code)), "{:?}", output.status);
            whole(&scratch.results());
            let next = scratch.output("run");
            assert!(next.status.success(), "{}", said(&next));
            assert_same(&scratch.results(), "a second signal");
            !said(&output).contains("continues where it stopped")
        };
        assert!((0..TRIES).any(at_once), "{first} and {second}: none of {TRIES} processes ended before it had saved");
    }
}
