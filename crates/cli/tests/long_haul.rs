//! Studies of thousands of cells: memory, file handles and unfinished work stay flat while they train, and tables and figures of ten
//! thousand records take seconds. `just long-haul` runs it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

const ROWS: &str = "text,mood\na good film,pos\nthe plot is old,neg\nso good,pos\nnever a film,neg\n";

/// A study of one short table, so that a cell takes little but its own making.
fn yaml(seeds: usize, variants: &str) -> String {
    let seeds: Vec<String> = (0..seeds).map(|seed| seed.to_string()).collect();
    format!(
        "# Many cells.\nsuite: custom\ndata: .\nmodel: mini_roberta\n\
         tasks: [{{task: {{name: mood, train: rows.csv, dev: dev.csv, text: text, label: mood}}}}]\nseeds: [{}]\n\
         targets: [query]\nranks: [1, 2]\ncohort: 4\ntrain: {{steps: 2, batch: 2, max_length: 16, checkpoint_every: 1}}\n\
         variants: [{variants}]\nbaseline: lora\n",
        seeds.join(", ")
    )
}

fn folder(yaml: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("rows.csv", ROWS), ("dev.csv", ROWS), ("many.yaml", yaml)] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn program(folder: &Path, command: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_lora-lab"));
    program.current_dir(folder).args([command, "many.yaml"]).stdout(Stdio::null()).stderr(Stdio::piped());
    program
}

#[track_caller]
fn timed(folder: &Path, command: &str) -> Duration {
    let since = Instant::now();
    let output = program(folder, command).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    since.elapsed()
}

/// What a process holds at a moment.
#[derive(Clone, Copy, Debug)]
struct Held {
    finished: usize,
    resident_kib: u64,
    handles: usize,
    unfinished: usize,
}

fn held(process: u32, results: &Path) -> Option<Held> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let count = |folder: &Path| fs::read_dir(folder).map_or(0, Iterator::count);
    Some(Held {
        finished: count(&results.join("runs")),
        resident_kib: status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()?,
        handles: fs::read_dir(format!("/proc/{process}/fd")).ok()?.count(),
        unfinished: count(&results.join(".partial")),
    })
}

#[test]
#[ignore = "needs some minutes of both cores: `just long-haul`"]
fn two_thousand_cells_take_no_more_than_two_hundred() {
    let folder = folder(&yaml(500, "lora, lora_fa"));
    let results = folder.path().join("results/many");
    let mut child = program(folder.path(), "run").args(["--workers", "2"]).stderr(Stdio::null()).spawn().unwrap();
    let mut seen: Vec<Held> = Vec::new();
    while child.try_wait().unwrap().is_none() {
        seen.extend(held(child.id(), &results));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read_dir(results.join("runs")).unwrap().count(), 2000);
    assert_eq!(fs::read_dir(results.join(".partial")).unwrap().count(), 0);
    let early: Vec<Held> = seen.iter().copied().filter(|held| (100..=300).contains(&held.finished)).collect();
    let late: Vec<Held> = seen.iter().copied().filter(|held| held.finished > 1500).collect();
    let most = |of: &[Held], what: fn(&Held) -> u64| of.iter().map(what).max().unwrap();
    let (before, after) = (most(&early, |held| held.resident_kib), most(&late, |held| held.resident_kib));
    println!("resident: {before} KiB after 100 to 300 cells, {after} KiB after 1500 to 2000");
    // The list of what is done grows with the cells, by some hundred bytes each.
    assert!(after < before + before / 10 + 8 * 1024, "{before} KiB grew to {after}");
    for what in [|held: &Held| held.handles as u64, |held: &Held| held.unfinished as u64] {
        let (before, after) = (most(&early, what), most(&late, what));
        println!("handles, or unfinished cohorts: {before}, then {after}");
        assert!(after <= before + 2, "{before} grew to {after}");
    }
}

#[test]
#[ignore = "needs 10,000 records to be written: `just long-haul`"]
fn ten_thousand_records_are_a_table_in_seconds() {
    let (seeds, variants) = (2500, "lora, lora_fa");
    let folder = folder(&yaml(1, variants));
    timed(folder.path(), "run");
    fs::write(folder.path().join("many.yaml"), yaml(seeds, variants)).unwrap();
    let runs = folder.path().join("results/many/runs");
    let made: Vec<_> = fs::read_dir(&runs).unwrap().map(|entry| entry.unwrap().path()).collect();
    for run in &made {
        let record: Value = serde_json::from_slice(&fs::read(run.join("record.json")).unwrap()).unwrap();
        for seed in 1..seeds {
            let copy = runs
                .join(format!("{}-s{seed}", run.file_name().unwrap().to_str().unwrap().strip_suffix("-s0").unwrap()));
            fs::create_dir(&copy).unwrap();
            fs::write(copy.join("record.json"), of_seed(&record, seed).to_string()).unwrap();
        }
    }
    let count = fs::read_dir(&runs).unwrap().count();
    assert_eq!(count, 10_000);
    let (table, figures) = (timed(folder.path(), "table"), timed(folder.path(), "figures"));
    let csv = fs::read_to_string(folder.path().join("results/many/tables/summary.csv")).unwrap();
    assert!(csv.lines().skip(1).all(|line| line.split(',').nth(4) == Some("2500")), "{csv}");
    println!("{count} records: table {table:.2?}, figures {figures:.2?}");
    assert!(
        table < Duration::from_secs(30) && figures < Duration::from_mins(1),
        "table {table:?}, figures {figures:?}"
    );
}

/// A record as a run of another seed would have left it, its metrics a little apart.
fn of_seed(record: &Value, seed: usize) -> Value {
    let mut copy = record.clone();
    // It is of the other record; those of earlier builds have none.
    copy.as_object_mut().unwrap().remove("checksum");
    copy["cell"]["seed"] = seed.into();
    for place in ["/seeds", "/spec/seeds"] {
        let streams = copy.pointer_mut(place).and_then(Value::as_object_mut).unwrap();
        streams.values_mut().for_each(|value| *value = seed.into());
    }
    copy["spec_hash"] = record::spec_hash(&copy["spec"]).into();
    copy
}
