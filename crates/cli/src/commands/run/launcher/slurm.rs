//! `--launcher slurm`: submits a study as one job array, each task of which is a worker, and watches it.
//!
//! The script that is submitted lies in the folder `logs` of the results, beside what the tasks say. A task that comes near its time limit, or
//! that is preempted, saves and is queued again. The launcher may be stopped: the tasks go on, and the same command watches them again.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use experiment::{Experiment, launcher::Slurm};
use record::{Store, WORKER, write_atomic};
use schedule::{Cut, Demand, LEAST_MINUTES, cut};

use super::{Lacking, given, logs, said_last, watched::Watched, without_launcher};
use crate::{
    commands::cost::{Costs, span},
    failure::Failure,
    signals::Signals,
    terminal::note,
};

/// Pause between two looks at the study.
const LOOK: Duration = Duration::from_millis(500);
/// Pause between two questions to the scheduler.
const ASK: Duration = Duration::from_secs(5);
/// The time limit of tasks of which nothing tells how long they take.
const UNKNOWN_MINUTES: u64 = 240;
/// Memory of a task beyond what one of its processes was seen to hold.
const MEMORY_MARGIN: f64 = 1.5;

/// A job array as it will be asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Array {
    pub(crate) cut: Cut,
    pub(crate) mem_gb: Option<u64>,
}

impl Array {
    /// The array for cohorts that cost so much; none of costs takes as many tasks as are allowed, for some hours.
    ///
    /// Who asks for a number of workers gets them.
    pub(crate) fn new(slurm: &Slurm, costs: Option<&Costs>, wanted: Option<usize>, cells: usize) -> Self {
        let most = usize::try_from(slurm.array_parallelism).unwrap_or(usize::MAX);
        let at_once = at_once(slurm);
        let Some(costs) = costs else {
            let minutes = slurm.timeout_min.unwrap_or(UNKNOWN_MINUTES + slurm.signal_delay_s.div_ceil(60));
            let workers = wanted.unwrap_or(cells.div_ceil(at_once)).clamp(1, most);
            return Self { cut: Cut { workers, minutes, makespan: f64::NAN }, mem_gb: slurm.mem_gb };
        };
        let least_minutes = LEAST_MINUTES + slurm.signal_delay_s.div_ceil(60);
        let demand =
            Demand { most, at_once, start: costs.start, minutes: slurm.timeout_min, least_minutes, workers: wanted };
        let is_given = slurm.additional_parameters.iter().any(|(name, _)| name.starts_with("mem-per"));
        let of_a_task = |bytes: u64| (bytes as f64 * MEMORY_MARGIN / 1e9).ceil() as u64;
        let mem_gb = slurm.mem_gb.or(costs.process_bytes.map(of_a_task).filter(|_| at_once == 1 && !is_given));
        Self { cut: cut(&costs.levels, demand), mem_gb }
    }

    /// A line that says it.
    pub(crate) fn said(&self, slurm: &Slurm) -> String {
        let Cut { workers, minutes, makespan } = self.cut;
        let tasks = if workers == 1 { "1 task".to_owned() } else { format!("{workers} tasks") };
        let end = if makespan.is_nan() {
            String::new()
        } else {
            format!(", done about {} after their start", span(makespan))
        };
        let memory = self.mem_gb.map(|gigabytes| format!(", {gigabytes} GB each")).unwrap_or_default();
        let cores = slurm.cpus_per_task.filter(|cores| *cores > 1).map(|cores| format!(", {cores} cores each"));
        format!("slurm: {tasks} of at most {minutes} minutes{}{memory}{end}", cores.unwrap_or_default())
    }
}

/// Cohorts that a task trains at once: one for each core where it has no card.
fn at_once(slurm: &Slurm) -> usize {
    if slurm.asks_for_cards() { 1 } else { slurm.cpus_per_task.unwrap_or(1) as usize }
}

/// Submits what is not there yet, and stays until all cells that lack a record have one.
pub(in super::super) fn launch(
    (experiment, lacking): (&Experiment, Lacking),
    (slurm, array): (&Slurm, Array),
    store: &Store,
    signals: &Signals,
) -> Result<(), Failure> {
    store.prepare()?;
    let progress = Watched::new(experiment.cells(), &lacking, store);
    if progress.open() == 0 {
        // The job of a launcher that was stopped has done it all.
        forget_job(store);
        return Ok(());
    }
    let job = submitted(experiment, slurm, array, store)?;
    let mut asked = Instant::now();
    let mut tasks = Tasks::of(&job)?;
    loop {
        std::thread::sleep(LOOK);
        if signals.status().is_some() {
            progress.close();
            note(&format!(
                "job {job} goes on; the same command watches it again, and `scancel {job}` ends it, with everything saved"
            ));
            return Err(Failure::Interrupted { status: signals.status().unwrap_or_default() });
        }
        progress.show(&tasks.said());
        if progress.open() == 0 {
            break;
        }
        if asked.elapsed() > ASK {
            let before = tasks.all();
            tasks = Tasks::of(&job)?;
            asked = Instant::now();
            // Twice nothing: a task that is queued again is nowhere for a moment. Somebody else may train what is left.
            if before == 0 && tasks.all() == 0 && store.leases()?.alive(WORKER)?.is_none() {
                break;
            }
        }
    }
    progress.close();
    let open = progress.open();
    if fs::read_to_string(job_file(store)).is_ok_and(|found| found == job) {
        forget_job(store);
    }
    if open > 0 {
        let said = said_last(newest(&logs(store)?).iter().map(PathBuf::as_path));
        return Err(Failure::Run(anyhow::anyhow!(
            "job {job} has ended, but {open} of {} cells have no record; the same command submits what is left. {said}",
            experiment.cells().len()
        )));
    }
    Ok(())
}

/// Where the number of the study's job is.
fn job_file(store: &Store) -> PathBuf {
    store.partial_dir().join("slurm-job")
}

/// Best effort: a job that has ended is asked for and not found.
fn forget_job(store: &Store) {
    let _ = fs::remove_file(job_file(store));
}

/// The study's job: the one that is queued or runs, or a new one.
fn submitted(experiment: &Experiment, slurm: &Slurm, array: Array, store: &Store) -> Result<String, Failure> {
    // Of two launchers at once one submits.
    let lease = store.leases()?.wait("submit", || false)?;
    let path = job_file(store);
    if let Ok(job) = fs::read_to_string(&path)
        && Tasks::of(&job)?.all() > 0
    {
        note(&format!("job {job} is queued or runs; watching it"));
        return Ok(job);
    }
    let folder = logs(store)?;
    let script = folder.join("workers.sub");
    write_atomic(&script, text(experiment.name(), slurm, &array, &folder)?.as_bytes())?;
    let job = sbatch(&script)?;
    write_atomic(&path, job.as_bytes())?;
    note(&format!("submitted job {job}; {}", array.said(slurm)));
    note(&format!("what its tasks say is under {}, with the script that was submitted", folder.display()));
    drop(lease);
    Ok(job)
}

/// The script of the array.
fn text(name: &str, slurm: &Slurm, array: &Array, logs: &Path) -> Result<String, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::Run(anyhow::anyhow!("this program: {error}")))?;
    let mut options = vec![format!("array=1-{}", array.cut.workers)];
    if !slurm.texts.iter().any(|(option, _)| *option == "job-name") {
        options.push(format!("job-name=lora-lab-{name}"));
    }
    options.extend(slurm.texts.iter().map(|(option, value)| format!("{option}={value}")));
    options.extend(slurm.gpus_per_node.as_ref().map(|cards| format!("gpus-per-node={cards}")));
    options.push(format!("cpus-per-task={}", slurm.cpus_per_task.unwrap_or(1)));
    options.extend(array.mem_gb.map(|gigabytes| format!("mem={gigabytes}G")));
    options.push(format!("time={}", array.cut.minutes));
    options.push(format!("signal=B:USR1@{}", slurm.signal_delay_s));
    options.extend(["requeue".to_owned(), "open-mode=append".to_owned()]);
    let logs = std::path::absolute(logs).unwrap_or_else(|_| logs.to_owned());
    options.push(format!("output={}", logs.join("slurm-%A_%a.log").display()));
    options.extend(slurm.additional_parameters.iter().map(|(name, value)| match value {
        Some(value) => format!("{name}={value}"),
        None => name.clone(),
    }));
    let mut script = "#!/usr/bin/env bash\n".to_owned();
    for option in options {
        // sbatch reads quotes, blanks and comments as a shell does.
        let escaped = option.replace('\\', r"\\").replace('"', r#"\""#);
        let _ = writeln!(script, "#SBATCH \"--{escaped}\"");
    }
    let mut command = vec![program.display().to_string()];
    command.extend(without_launcher(std::env::args().skip(1), &[]));
    command.extend(["--no-wait".to_owned(), "--among".to_owned(), array.cut.workers.to_string()]);
    if !given("--workers") {
        command.extend(["--workers".to_owned(), at_once(slurm).to_string()]);
    }
    let command = command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let setup = slurm.setup.iter().fold(String::new(), |all, line| all + line + "\n");
    let _ = write!(
        script,
        r#"
{setup}
{command} &
worker=$!

save_and_queue_again() {{
    kill -USR1 "$worker"
    wait "$worker"
    if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {times} ]; then
        scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
    fi
    exit 0
}}
trap save_and_queue_again USR1
# scancel and preemption signal every process of the task, the worker too: it saves and ends, and a second signal would not let it.
trap 'wait "$worker"; exit $?' TERM

wait "$worker"
"#,
        times = slurm.max_num_timeout
    );
    Ok(script)
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn sbatch(script: &Path) -> Result<String, Failure> {
    let said = ask("sbatch", &["--parsable", &script.display().to_string()])?;
    let way_out = format!("; mend the block `launcher` of the experiment. The script is {}", script.display());
    let said = said.map_err(|refused| Failure::Input(format!("Slurm took no job: {refused}{way_out}")))?;
    // `JOB`, or `JOB;CLUSTER`.
    let job = said.trim().split(';').next().unwrap_or_default().to_owned();
    if job.is_empty() || !job.chars().all(|c| c.is_ascii_digit()) {
        return Err(Failure::Run(anyhow::anyhow!("sbatch said `{}` and no job's number", said.trim())));
    }
    Ok(job)
}

/// What a program of Slurm said; what it refused is the inner error.
fn ask(program: &str, arguments: &[&str]) -> Result<Result<String, String>, Failure> {
    let output = Command::new(program).args(arguments).output().map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "is not on the PATH".to_owned(),
            _ => format!("cannot be started ({error})"),
        };
        Failure::Input(format!(
            "`{program}` {reason}: `--launcher slurm` runs where jobs are submitted, on a login node; `--launcher local` starts workers on this machine"
        ))
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr).trim().to_owned()) })
}

/// Tasks of a job by what the scheduler does with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tasks {
    running: usize,
    queued: usize,
}

impl Tasks {
    fn of(job: &str) -> Result<Self, Failure> {
        // A job that ended some time ago is an error to squeue, and a scheduler that does not answer is one for a while.
        let said = ask("squeue", &["--noheader", "--array", "--jobs", job, "--format=%T"])?;
        Ok(match said {
            Ok(said) => Self::read(&said),
            Err(refused) if refused.contains("Invalid job id") => Self::default(),
            Err(_) => Self { running: 0, queued: 1 },
        })
    }

    fn read(said: &str) -> Self {
        let states = said.lines().map(str::trim).filter(|state| !state.is_empty());
        states.fold(Self::default(), |all, state| match state {
            "PENDING" | "CONFIGURING" | "REQUEUED" | "REQUEUE_HOLD" | "SUSPENDED" | "RESV_DEL_HOLD"
            | "SPECIAL_EXIT" => Self { queued: all.queued + 1, ..all },
            "CANCELLED" | "COMPLETED" | "FAILED" | "TIMEOUT" | "NODE_FAIL" | "OUT_OF_MEMORY" | "BOOT_FAIL"
            | "DEADLINE" | "PREEMPTED" | "REVOKED" => all,
            _ => Self { running: all.running + 1, ..all },
        })
    }

    fn all(self) -> usize {
        self.running + self.queued
    }

    fn said(self) -> String {
        format!(" ({} tasks run, {} queued)", self.running, self.queued)
    }
}

/// Logs of tasks, those that were written last first.
fn newest(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_of_task = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("slurm-"));
    let mut logs: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_of_task).collect();
    logs.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).and_then(|data| data.modified()).ok()));
    logs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("--set=train.steps=3"), "--set=train.steps=3");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn tasks_are_counted_by_their_state() {
        assert_eq!(Tasks::read("RUNNING\nPENDING\nCOMPLETING\nREQUEUED\nCANCELLED\n"), Tasks { running: 2, queued: 2 });
        assert_eq!(Tasks::read("\n").all(), 0);
    }
}
