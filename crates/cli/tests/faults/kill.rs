//! `kill -9` at random moments of training, evaluation, checkpoints, tables and figures.

use std::time::{Duration, Instant};

use crate::{
    Random, count,
    outcome::{assert_same, undisturbed, whole},
    scratch::{COMMANDS, Scratch, said},
};

/// Seed of the moments.
const SEED: u64 = 18;

#[test]
fn killed_at_random_moments_it_ends_at_the_same_bits() {
    let wanted = count(6, 100);
    let mut took = undisturbed().1;
    let mut random = Random(SEED);
    let (mut kills, mut studies) = ([0; 3], 0);
    while kills.iter().sum::<usize>() < wanted {
        let scratch = Scratch::new();
        for (at, command) in COMMANDS.into_iter().enumerate() {
            // Training, which has the most moments, as often as it takes; tables and figures a few times each, while they have had no
            // more of the kills than it.
            let most = if kills[0] < kills[1] + kills[2] { [usize::MAX, 0, 0] } else { [usize::MAX, 2, 3] };
            for attempt in 0..most[at] {
                if let Some(ended) = kill_after(&scratch, command, random.below(took[at].as_micros() as u64 * 3 / 2)) {
                    // A machine that was busy at first must not leave most moments behind the end.
                    took[at] = if attempt == 0 { took[at].min(ended) } else { took[at] };
                    break;
                }
                kills[at] += 1;
                whole(&scratch.results());
            }
        }
        scratch.finish();
        assert_same(&scratch.results(), &format!("kills (study {studies}, seed {SEED})"));
        studies += 1;
    }
    println!(
        "{} kills, {} of them in run, {} in table, {} in figures; {studies} studies ended at the same bits",
        kills.iter().sum::<usize>(),
        kills[0],
        kills[1],
        kills[2]
    );
}

/// Kills the command at a moment; the time that it took, where it came to its (good) end before.
fn kill_after(scratch: &Scratch, command: &str, microseconds: u64) -> Option<Duration> {
    let (begun, moment) = (Instant::now(), Duration::from_micros(microseconds));
    let mut child = scratch.start(command);
    let mut ended = None;
    while ended.is_none() && begun.elapsed() < moment {
        std::thread::sleep(Duration::from_millis(1).min(moment.saturating_sub(begun.elapsed())));
        ended = child.try_wait().unwrap().map(|_| begun.elapsed());
    }
    if ended.is_none() {
        child.kill().unwrap(); // SIGKILL
    }
    let output = child.wait_with_output().unwrap();
    // Without a code, it was the signal.
    assert!(output.status.code().is_none_or(|code| code == 0), "{command}: {:?}\n{}", output.status, said(&output));
    output.status.code().map(|_| ended.unwrap_or_else(|| begun.elapsed()))
}

#[test]
fn killed_at_a_checkpoint_it_resumes_and_says_so() {
    let scratch = Scratch::new();
    for _ in 0..3 {
        scratch.kill_at_checkpoint();
    }
    scratch.finish_tables();
    assert_same(&scratch.results(), "three kills at checkpoints");
    let record = |name: &str| std::fs::read_to_string(scratch.results().join("runs").join(name).join("record.json"));
    let resumed = ["mood-lora-r2-s0", "mood-dylora-r2-s0"].map(|name| record(name).unwrap());
    assert!(resumed.iter().any(|text| !text.contains("\"resumed_at\": []")), "{}", resumed[0]);
}
