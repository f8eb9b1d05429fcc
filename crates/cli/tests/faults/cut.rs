//! Files cut short, as a power cut leaves what was written last.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
};

use crate::{
    Random, count,
    outcome::{assert_same, files},
    scratch::{Scratch, failed_well, said},
};

fn cut(path: &Path, share: u64) -> u64 {
    let length = fs::metadata(path).unwrap().len();
    let kept = length * share / 100;
    OpenOptions::new().write(true).open(path).unwrap().set_len(kept).unwrap();
    kept
}

/// The same command again. Where it refuses, it names the damaged file; whoever does what its message says gets through.
fn run_again(scratch: &Scratch, damaged: &Path, what: &str) -> bool {
    let output = scratch.output("run");
    if output.status.success() {
        return false;
    }
    failed_well(&output, &[1, 2]);
    let (said, name) = (said(&output), damaged.strip_prefix(scratch.folder()).unwrap().display().to_string());
    assert!(said.contains(&name), "{what}: {name} is not named:\n{said}");
    assert!(said.contains("delete"), "{what}: no way out:\n{said}");
    if said.contains("folder") { fs::remove_dir_all(damaged.parent().unwrap()) } else { fs::remove_file(damaged) }
        .unwrap();
    true
}

#[test]
fn unfinished_work_cut_short_is_noticed() {
    let mut random = Random(3);
    let (mut cuts, mut refused) = (0, 0);
    for round in 0..count(1, 6) {
        for end in ["checkpoint.safetensors", ".jsonl", "members.json"] {
            let scratch = Scratch::new();
            scratch.kill_at_checkpoint();
            let found = scratch.unfinished(end);
            let path = &found[random.below(found.len() as u64) as usize];
            let share = if round == 0 { 0 } else { random.below(100) };
            let what = format!("{end} cut to {} bytes", cut(path, share));
            refused += usize::from(run_again(&scratch, path, &what));
            scratch.finish_tables();
            assert_same(&scratch.results(), &what);
            cuts += 1;
        }
    }
    println!(
        "{cuts} files of unfinished work cut short, {refused} of them refused by name; all studies ended at the same bits"
    );
}

/// The first file of a finished study whose name ends so.
fn finished(scratch: &Scratch, end: &str) -> PathBuf {
    files(&scratch.results()).into_iter().find(|path| path.to_string_lossy().ends_with(end)).unwrap()
}

#[test]
fn results_cut_short_are_noticed() {
    let scratch = Scratch::new();
    scratch.finish();
    let mut random = Random(4);
    let (mut cuts, mut refused) = (0, 0);
    for round in 0..count(1, 6) {
        for end in ["/adapter.safetensors", "/record.json", "/main.md", "/summary.csv", ".svg", ".png"] {
            let path = finished(&scratch, end);
            let share = if round == 0 { 50 } else { random.below(100) };
            let what = format!("{end} cut to {} bytes", cut(&path, share));
            refused += usize::from(run_again(&scratch, &path, &what));
            scratch.finish();
            assert_same(&scratch.results(), &what);
            cuts += 1;
        }
    }
    println!(
        "{cuts} files of a finished study cut short, {refused} of them refused by name; all were made again to the same bits"
    );
}
