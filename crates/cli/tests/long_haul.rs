//! Studies of thousands of cells: memory, file handles and disk stay flat beyond the results while they train, and tables and figures of
//! ten thousand runs take seconds. `just long-haul` runs it and prints what it measures; time is bounded loosely, for slow machines.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![allow(clippy::print_stdout, reason = "what it measures is its result")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

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
    program.current_dir(folder).args([command, "many.yaml"]).stdout(Stdio::null()).stderr(Stdio::null());
    program
}

/// What a command took.
#[derive(Debug)]
struct Took {
    time: Duration,
    /// The most that was resident at once.
    peak_kib: u64,
    handles: usize,
}

/// Runs a command to its end and says what it took.
#[track_caller]
fn measured(folder: &Path, command: &str) -> Took {
    let since = Instant::now();
    let mut child = program(folder, command).spawn().unwrap();
    let (mut peak_kib, mut handles) = (0, 0);
    while child.try_wait().unwrap().is_none() {
        peak_kib = peak_kib.max(status(child.id(), "VmHWM:").unwrap_or(0));
        handles = handles.max(open_files(child.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = Took { time: since.elapsed(), peak_kib, handles };
    assert!(child.wait().unwrap().success(), "{command}: run it by hand to see why");
    println!("{command}: {:.2?}, at most {} MiB and {handles} handles", took.time, took.peak_kib / 1024);
    took
}

/// A number of KiB that the system states of a process.
fn status(process: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?.parse().ok()
}

fn open_files(process: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{process}/fd")).ok()?.count())
}

/// Bytes of all files below a folder.
fn bytes(folder: &Path) -> u64 {
    fs::read_dir(folder).map_or(0, |entries| {
        entries
            .map(|entry| entry.unwrap())
            .map(|entry| if entry.path().is_dir() { bytes(&entry.path()) } else { entry.metadata().unwrap().len() })
            .sum()
    })
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
    let count = |folder: &Path| fs::read_dir(folder).map_or(0, Iterator::count);
    let is_cohort = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("cohort-");
    let cohorts = |folder: &Path| fs::read_dir(folder).map_or(0, |all| all.flatten().filter(is_cohort).count());
    Some(Held {
        finished: count(&results.join("runs")),
        resident_kib: status(process, "VmRSS:")?,
        handles: open_files(process)?,
        unfinished: cohorts(&results.join(".partial")),
    })
}

#[test]
#[ignore = "needs some minutes of both cores: `just long-haul`"]
fn two_thousand_cells_take_no_more_than_two_hundred() {
    let folder = folder(&yaml(500, "lora, lora_fa"));
    let results = folder.path().join("results/many");
    let since = Instant::now();
    let mut child = program(folder.path(), "run").args(["--workers", "2"]).spawn().unwrap();
    let mut seen: Vec<Held> = Vec::new();
    while child.try_wait().unwrap().is_none() {
        seen.extend(held(child.id(), &results));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(child.wait().unwrap().success());
    println!("2000 cells: {:.0?}", since.elapsed());
    assert_eq!(fs::read_dir(results.join("runs")).unwrap().count(), 2000);
    assert_eq!(fs::read_dir(results.join(".partial")).unwrap().count(), 0);
    let (all, runs) = (bytes(&results), bytes(&results.join("runs")));
    println!("on disk: {runs} bytes of runs, {} beside them", all - runs);
    // The tables, which have a row per group and not per cell.
    assert!(all - runs < 256 * 1024, "{} bytes lie beside the runs", all - runs);
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
#[ignore = "needs some minutes of both cores and 1 GB of disk: `just long-haul`"]
fn ten_thousand_runs_are_tables_and_figures_in_seconds() {
    let (seeds, cells) = (2500, 10_000);
    let folder = folder(&yaml(seeds, "lora, lora_fa"));
    let results = folder.path().join("results/many");
    measured(folder.path(), "run");
    let runs = results.join("runs");
    assert_eq!(fs::read_dir(&runs).unwrap().count(), cells);
    let of = |name: &str| -> u64 {
        fs::read_dir(&runs).unwrap().map(|run| fs::metadata(run.unwrap().path().join(name)).unwrap().len()).sum()
    };
    println!("{cells} runs: {} bytes of records, {} of adapters", of("record.json"), of("adapter.safetensors"));
    let table = measured(folder.path(), "table");
    let csv = fs::read_to_string(results.join("tables/summary.csv")).unwrap();
    assert!(csv.lines().skip(1).all(|line| line.split(',').nth(4) == Some("2500")), "{csv}");
    let with_adapters = measured(folder.path(), "figures");
    let rows = |name: &str| fs::read_to_string(results.join("analysis").join(name)).unwrap().lines().count() - 1;
    // One row per run and layer; pairs of runs are bounded, or there were millions of rows.
    assert_eq!((rows("projection.csv"), rows("shape.csv")), (4 * cells, 4 * cells));
    assert!(rows("overlap.csv") < 20_000, "{} rows", rows("overlap.csv"));
    for run in fs::read_dir(&runs).unwrap() {
        fs::remove_file(run.unwrap().path().join("adapter.safetensors")).unwrap();
    }
    let from_records = measured(folder.path(), "figures");
    let mib = |took: &Took| took.peak_kib / 1024;
    // Records are read whole, some 10 KiB each; of an adapter its rows stay.
    assert!(mib(&table) < 512 && mib(&from_records) < 512, "{table:?}, {from_records:?}");
    assert!(mib(&with_adapters) < 768, "{with_adapters:?}");
    assert!([&table, &with_adapters, &from_records].iter().all(|took| took.handles < 64));
    for (took, seconds) in [(&table, 60), (&from_records, 60), (&with_adapters, 300)] {
        assert!(took.time < Duration::from_secs(seconds), "{took:?}");
    }
    report_of_long_runs(folder.path(), cells);
}

/// The page of so many runs, each with a log of hundreds of steps: what it takes, and how large it is.
fn report_of_long_runs(folder: &Path, cells: usize) {
    let store = record::Store::open(&folder.join("results"), "many").unwrap();
    for run in fs::read_dir(store.runs_dir()).unwrap() {
        let mut record =
            record::RunRecord::from_json(&fs::read(run.unwrap().path().join("record.json")).unwrap()).unwrap();
        let entry = |step: u64| record::StepEntry {
            step,
            task_loss: (step as f64 + record.cell.seed as f64).sin().abs() / (step as f64).sqrt(),
            penalty: None,
            learning_rate: 1e-3,
            gradient_norm: (step as f64 * 0.7).cos().abs(),
            components: None,
        };
        record.steps = (1..=300).map(entry).collect();
        store.write(&record).unwrap();
    }
    measured(folder, "table");
    let report = measured(folder, "report");
    let size = fs::metadata(store.directory().join("report.html")).unwrap().len();
    println!("report of {cells} runs of 300 logged steps: {} MiB", size >> 20);
    assert!(size < 64 << 20, "{size} bytes are too many to send");
    assert!(report.time < Duration::from_secs(60) && report.peak_kib < 2 << 20, "{report:?}");
}

/// CPU seconds of a process and of the children that it has waited for.
fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11..15].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

#[test]
#[ignore = "needs some minutes of both cores: `just long-haul`"]
fn ten_thousand_cells_over_eight_workers_cost_little_beside_the_work() {
    let folder = folder(&yaml(2500, "lora, lora_fa").replace("cohort: 4\n", ""));
    let results = folder.path().join("results/many");
    let before = cpu_seconds(std::process::id());
    let since = Instant::now();
    let ended = program(folder.path(), "run").args(["--launcher", "local:8"]).status().unwrap();
    let (wall, cpu) = (since.elapsed(), cpu_seconds(std::process::id()) - before);
    assert!(ended.success());
    let records: Vec<_> = fs::read_dir(results.join("runs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(records.len(), 10_000);
    // What the workers say that leases took them, by the clock, in which other workers run as well.
    let (mut cohorts, mut leasing) = (0.0, 0.0);
    for log in fs::read_dir(results.join("logs")).unwrap() {
        let text = fs::read_to_string(log.unwrap().path()).unwrap();
        let line = text.lines().find(|line| line.starts_with("trained ")).unwrap();
        let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        cohorts += numbers[0];
        leasing += numbers[1];
    }
    assert!((cohorts - 10_000.0).abs() < 0.5, "{cohorts} cohorts of one cell each");
    // A record as it is written, again and again.
    let copies = tempfile::tempdir().unwrap();
    let record = record::RunRecord::from_json(&fs::read(records[0].join("record.json")).unwrap()).unwrap();
    let store = record::Store::open(copies.path(), "copies").unwrap();
    store.prepare().unwrap();
    let since = Instant::now();
    (0..1000).for_each(|_| store.write(&record).unwrap());
    let writing = since.elapsed().as_secs_f64() * 10.0;
    let all = 8.0 * wall.as_secs_f64();
    println!(
        "10000 cells over 8 workers: {wall:.1?}, {cpu:.0} CPU seconds; of the workers' {all:.0} s leases took {leasing:.1} ({:.2}%) and records \
         {writing:.1} ({:.2}%)",
        100.0 * leasing / all,
        100.0 * writing / all
    );
    assert!(leasing + writing < 0.05 * all);
}
