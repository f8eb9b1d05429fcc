//! One experiment and several processes; a results folder that nobody may write to.

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    Random, count,
    outcome::{self, assert_equal, assert_same, files},
    scratch::{GRID, Scratch, failed_well, said, signal},
};

/// How long a process may be silent here.
const PATIENCE: &str = "1";

/// One more process on the study.
fn join(scratch: &Scratch) -> Child {
    let mut program = scratch.program();
    program.args(["run", "grid.yaml", "--workers", "1", "--patience", PATIENCE]);
    program.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// How often each cell was said to have ended: `[3/12] mood-lora rank 2 seed 0: ..`.
fn ended(said: &[String]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in said.iter().flat_map(|said| said.lines()) {
        let cell =
            line.strip_prefix('[').and_then(|line| line.split_once("] ")).and_then(|(_, rest)| rest.split_once(": "));
        if let Some((cell, _)) = cell {
            *counts.entry(cell.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

#[track_caller]
fn assert_each_once(said: &[String]) {
    let counts = ended(said);
    assert_eq!(counts.len(), 12, "{counts:?}");
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}

#[test]
fn a_second_process_takes_over_from_a_first_that_dies() {
    let scratch = Scratch::new();
    let mut first = scratch.at_checkpoint();
    // Nobody may take away what the first is writing.
    let forced = scratch.program().args(["run", "grid.yaml", "--force"]).output().unwrap();
    failed_well(&forced, &[1, 2]);
    let holder = format!("another process trains this experiment (process {} on ", first.id());
    assert!(said(&forced).contains(&holder), "{}", said(&forced));
    assert!(!scratch.unfinished("members.json").is_empty(), "the first process has its work still");
    // The second waits for a first that lives, if only just, and for one that is gone it does not.
    let second = scratch.start("run");
    first.kill().unwrap();
    first.wait().unwrap();
    // Nor is what a kill in the middle of a table has left of it in the way, long ago: its name does not tell on which machine.
    let tables = scratch.results().join("tables");
    let half = tables.join(format!(".main.md.{}-76.tmp", first.id()));
    let second = second.wait_with_output().unwrap();
    assert!(second.status.success(), "{}", said(&second));
    assert_same(&scratch.results(), "a first process that died");
    fs::write(&half, b"half a table").unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(2);
    fs::File::options().write(true).open(&half).unwrap().set_modified(long_ago).unwrap();
    scratch.finish_tables();
    assert!(!half.exists());
    assert_same(&scratch.results(), "a second process");
}

#[test]
fn processes_that_start_at_once_share_the_study() {
    let scratch = Scratch::new();
    let all = [(); 4].map(|()| join(&scratch)).map(|child| child.wait_with_output().unwrap());
    for output in &all {
        assert!(output.status.success(), "{}", said(output));
    }
    assert_each_once(&all.map(|output| said(&output)));
    assert_same(&scratch.results(), "four processes");
}

#[test]
fn a_process_that_wakes_up_has_lost_its_runs() {
    let scratch = Scratch::new();
    let frozen = scratch.at_checkpoint();
    let second = join(&scratch).wait_with_output().unwrap();
    assert!(second.status.success(), "{}", said(&second));
    signal(&frozen, "CONT");
    let first = frozen.wait_with_output().unwrap();
    assert!(first.status.success(), "{}", said(&first));
    assert!(said(&first).contains("another process has taken over"), "{}", said(&first));
    assert_each_once(&[said(&first), said(&second)]);
    assert_same(&scratch.results(), "a process that woke up");
}

#[test]
fn a_launcher_stops_its_workers_and_finds_them_again() {
    let scratch = Scratch::new();
    let launch = || {
        let mut program = scratch.program();
        program.args(["run", "grid.yaml", "--launcher", "local:2", "--patience", PATIENCE]);
        program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let begun = |launcher: &mut Child| {
        while scratch.unfinished("checkpoint.safetensors").is_empty() {
            assert!(launcher.try_wait().unwrap().is_none(), "it ended before a checkpoint was seen");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    let workers =
        || scratch.unfinished(".1").into_iter().filter(|path| path.to_string_lossy().contains("worker-")).count();
    let mut stopped = launch();
    begun(&mut stopped);
    signal(&stopped, "TERM");
    let stopped = stopped.wait_with_output().unwrap();
    assert_eq!((stopped.status.code(), workers()), (Some(143), 0), "{}", said(&stopped));
    // A launcher that is killed leaves its workers at work.
    let mut killed = launch();
    begun(&mut killed);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let again = launch().wait_with_output().unwrap();
    assert!(again.status.success(), "{}", said(&again));
    let tables = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(tables.contains("adalora"), "{tables}");
    fs::remove_dir_all(scratch.results().join("logs")).unwrap();
    assert_same(&scratch.results(), "two launchers");
}

/// Programs of these names, which do by a shell what Slurm's would: `sbatch` starts the tasks of the script at once, `squeue` lists those that run.
fn scheduler(scratch: &Scratch) -> std::path::PathBuf {
    let folder = scratch.folder().join("bin");
    fs::create_dir(&folder).unwrap();
    let sbatch = r#"#!/usr/bin/env bash
script=${@: -1}
count=$(sed -n 's/^#SBATCH "--array=1-\([0-9]*\)"$/\1/p' "$script")
grep -q '^#SBATCH "--partition=main"$' "$script" || { echo 'sbatch: error: invalid partition specified' >&2; exit 1; }
for task in $(seq "$count"); do
    SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task setsid bash "$script" > "$(dirname "$script")/slurm-7_$task.log" 2>&1 < /dev/null &
    echo $! >> "$(dirname "$0")/tasks"
done
echo 7
"#;
    let squeue = "#!/usr/bin/env bash\nfor task in $(cat \"$(dirname \"$0\")/tasks\" 2>/dev/null); do kill -0 $task 2>/dev/null && echo RUNNING; done; true\n";
    for (name, text) in [("sbatch", sbatch), ("squeue", squeue)] {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        Command::new("chmod").arg("+x").arg(&path).status().unwrap();
    }
    folder
}

#[test]
fn a_submitted_study_ends_in_the_same_tables() {
    let block = "launcher: {partition: main, array_parallelism: 2, setup: [export SOURCED=1]}\n";
    let scratch = Scratch::with(&format!("{GRID}{block}"));
    // Where no jobs are submitted, it says what to do.
    let launch = |path: String, more: &[&str]| {
        let mut program = scratch.program();
        program.args(["run", "grid.yaml", "--launcher", "slurm", "--among", "2", "--patience", PATIENCE]).args(more);
        program.env("PATH", path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let nowhere = launch("/nowhere".to_owned(), &[]).wait_with_output().unwrap();
    failed_well(&nowhere, &[2]);
    assert!(said(&nowhere).contains("`sbatch` is not on the PATH"), "{}", said(&nowhere));
    let path = format!("{}:{}", scheduler(&scratch).display(), std::env::var("PATH").unwrap());
    let refused = launch(path.clone(), &["--set", "launcher.partition=other"]).wait_with_output().unwrap();
    failed_well(&refused, &[2]);
    assert!(said(&refused).contains("Slurm took no job: sbatch: error: invalid partition"), "{}", said(&refused));
    // One that is stopped leaves its job, which the next one finds.
    let mut first = launch(path.clone(), &[]);
    while scratch.unfinished("checkpoint.safetensors").is_empty() {
        assert!(first.try_wait().unwrap().is_none(), "it ended before a checkpoint was seen");
        std::thread::sleep(Duration::from_millis(2));
    }
    signal(&first, "INT");
    let first = first.wait_with_output().unwrap();
    assert_eq!(first.status.code(), Some(130), "{}", said(&first));
    assert!(
        said(&first).contains("submitted job 7; slurm: 2 tasks") && said(&first).contains("job 7 goes on"),
        "{}",
        said(&first)
    );
    let again = launch(path.clone(), &[]).wait_with_output().unwrap();
    assert!(again.status.success(), "{}", said(&again));
    assert!(!said(&again).contains("submitted job"), "{}", said(&again));
    let tables = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(tables.contains("adalora"), "{tables}");
    // One that comes when its job has done everything leaves nothing of it either.
    fs::write(scratch.results().join(".partial/slurm-job"), "7").unwrap();
    let late = launch(path, &[]).wait_with_output().unwrap();
    assert!(late.status.success(), "{}", said(&late));
    fs::remove_dir_all(scratch.results().join("logs")).unwrap();
    // The experiment has a block more; the runs do not know.
    let kept = scratch.results().join("experiment.yaml");
    let text = fs::read_to_string(&kept).unwrap();
    assert!(text.contains(block), "{text}");
    fs::write(&kept, text.replace(block, "")).unwrap();
    assert_same(&scratch.results(), "a submitted study");
}

/// The cells of the plan of a study that two processes are to share, in the order in which they are begun.
fn planned(scratch: &Scratch) -> Vec<String> {
    let mut program = scratch.program();
    program.args(["run", "grid.yaml", "--workers", "1", "--among", "2"]);
    let mut child = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let path = scratch.results().join(".partial/plan.json");
    while !path.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before a plan was seen");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let slugs = plan["cohorts"].as_array().unwrap().iter().flat_map(|cohort| cohort["slugs"].as_array().unwrap());
    slugs.map(|slug| slug.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_shared_study_begins_with_what_takes_longest() {
    let size = "name: size, train: train.csv, dev: dev.csv, text: text, label: size}";
    let long = GRID.replace(&format!("- task: {{{size}"), &format!("- train: {{steps: 60}}\n    task: {{{size}"));
    assert_ne!(long, GRID);
    let scratch = Scratch::with(&long);
    let order = planned(&scratch);
    let first_short = order.iter().position(|slug| slug.starts_with("mood")).unwrap();
    assert!(order[..first_short].iter().all(|slug| slug.starts_with("size")) && first_short == 6, "{order:?}");
}

#[test]
fn check_says_what_a_study_costs() {
    let scratch = Scratch::with(&format!("{GRID}launcher: {{partition: main, array_parallelism: 2}}\n"));
    let check = |more: &[&str]| {
        let output = scratch.program().args(["check", "grid.yaml", "--device", "cpu"]).args(more).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let before = check(&[]);
    assert!(before.contains("cost: 12 runs") && before.contains("12 by steps that were timed now"), "{before}");
    assert!(before.contains("slurm: 1 task of at most 12 minutes"), "{before}");
    assert!(!scratch.results().exists(), "check writes nothing");
    scratch.finish_tables();
    let record = scratch.results().join("runs/mood-lora-r2-s1");
    fs::remove_dir_all(&record).unwrap();
    let after = check(&["--set", "launcher.timeout_min=30"]);
    assert!(
        after.contains("cost: 1 run,") && after.contains("1 by records of the same recipe; a step takes"),
        "{after}"
    );
    assert!(after.contains("slurm: 1 task of at most 30 minutes"), "{after}");
    let other = check(&["--set", "name=other", "--set", "train.learning_rate=1e-3"]);
    assert!(other.contains("12 by records of the same recipe"), "{other}");
}

#[test]
fn another_recipe_has_no_part_in_the_study() {
    let scratch = Scratch::new();
    let mut first = scratch.at_checkpoint();
    let other = scratch.program().args(["run", "grid.yaml", "--set", "train.steps=7"]).output().unwrap();
    failed_well(&other, &[1, 2]);
    assert!(said(&other).contains("one experiment, one build and one kind of device"), "{}", said(&other));
    first.kill().unwrap();
    first.wait().unwrap();
    scratch.finish_tables();
    assert_same(&scratch.results(), "another recipe");
}

#[test]
fn whatever_happens_to_workers_no_run_ends_twice() {
    let (faults, steps) = (count(8, 30), count(24, 80));
    let long = GRID.replacen("steps: 6,", &format!("steps: {steps},"), 1);
    let (undisturbed, scratch) = (Scratch::with(&long), Scratch::with(&long));
    undisturbed.finish_tables();
    let mut random = Random(7);
    let (mut workers, mut frozen, mut all, mut made) =
        (vec![join(&scratch), join(&scratch)], Vec::new(), Vec::new(), 0);
    while made < faults {
        std::thread::sleep(Duration::from_millis(random.below(500)));
        let at = random.below(workers.len() as u64) as usize;
        let mut worker = workers.swap_remove(at);
        if worker.try_wait().unwrap().is_some() {
            break;
        }
        match random.below(3) {
            0 => worker.kill().unwrap(),
            1 => signal(&worker, "TERM"),
            _ => signal(&worker, "STOP"),
        }
        made += 1;
        frozen.push(worker);
        workers.push(join(&scratch));
    }
    assert!(made >= faults / 2, "the study ended after {made} faults");
    std::thread::sleep(Duration::from_secs(2));
    for worker in &mut frozen {
        if worker.try_wait().unwrap().is_none() {
            signal(worker, "CONT");
        }
    }
    all.extend(workers.into_iter().chain(frozen).map(|child| said(&child.wait_with_output().unwrap())));
    all.push(said(&scratch.output("run")));
    assert!(all.iter().all(|said| !said.contains("panicked")), "{all:?}");
    // A kill may come between a record and the line that tells of it.
    assert!(ended(&all).values().all(|count| *count == 1), "{:?}", ended(&all));
    assert_equal(&outcome::of(&undisturbed.results()), &outcome::of(&scratch.results()), "faults of workers");
}

#[test]
#[cfg_attr(not(namespaces), ignore = "needs `unshare -Urm`: user and mount namespaces")]
fn a_folder_that_is_read_only_is_found_before_anything_trains() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.folder().join("results")).unwrap();
    let script = "mount --bind results results && mount -o remount,ro,bind results && exec \"$0\" run grid.yaml";
    let output = Command::new("unshare")
        .args(["-Urm", "sh", "-c", script, crate::scratch::program()])
        .current_dir(scratch.folder())
        .output()
        .unwrap();
    failed_well(&output, &[1, 2]);
    let said = said(&output);
    assert!(said.contains("results/grid") && said.contains("Read-only"), "{said}");
    assert_eq!(files(&scratch.folder().join("results")), Vec::<std::path::PathBuf>::new());
    scratch.finish_tables();
    assert_same(&scratch.results(), "a read-only folder");
}
