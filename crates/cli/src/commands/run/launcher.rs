//! `--launcher local:N`: starts workers on this machine, one for each card or core, and watches them.
//!
//! A worker is this program with the same arguments, in a process group of its own: whoever stops the launcher asks the workers once to save and
//! end. Where the launcher itself is killed, they go on, and the same command again watches them and starts those that lack. Nothing
//! but the study's own files tells them of each other.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::IsTerminal,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr,
    time::{Duration, Instant},
};

use assets::device::{self, Backend, State};
use experiment::cell::Cell;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use record::{Holder, Store, WORKER, holders};

use crate::{failure::Failure, signals::Signals, terminal::note};

/// Who starts the workers of a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Launcher {
    /// This program, on this machine; none of a number takes one worker for each card, or each core where there is none.
    Local(Option<usize>),
}

impl FromStr for Launcher {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = "write `local`, or `local:N` for N workers, from 1 to 1024";
        match text.split_once(':') {
            None if text == "local" => Ok(Self::Local(None)),
            Some(("local", count)) => match count.parse() {
                Ok(count @ 1..=1024) => Ok(Self::Local(Some(count))),
                _ => Err(format!("`{count}` is no number of workers; {rule}")),
            },
            _ => Err(format!("`{text}` is no launcher; {rule}")),
        }
    }
}

/// Pause between two looks at the study.
const LOOK: Duration = Duration::from_millis(200);

/// Pause between two plain lines of progress.
const PAUSE: Duration = Duration::from_secs(15);

/// Starts the workers that lack, and stays until all have ended.
pub(super) fn launch(
    launcher: Launcher,
    named: &device::Named,
    cells: &[Cell],
    store: &Store,
    signals: &Signals,
) -> Result<(), Failure> {
    let Launcher::Local(wanted) = launcher;
    let cards = cards(named);
    let count = wanted.unwrap_or_else(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if cards.is_empty() { cores } else { cards.len() }
    });
    store.prepare()?;
    // Those that an earlier launcher has left.
    let before = at_work(store)?.len();
    let logs = store.directory().join("logs");
    fs::create_dir_all(&logs).map_err(|error| Failure::Run(anyhow::anyhow!("{}: {error}", logs.display())))?;
    let mut workers = Vec::new();
    for index in before..count {
        let log = logs.join(format!("worker-{}.log", index + 1));
        let card = cards.get(index % cards.len().max(1)).map(String::as_str);
        workers.push((start(count, card, &log)?, log));
    }
    if before > 0 {
        note(&format!("{before} workers are at work on this machine; started {} more", workers.len()));
    } else {
        note(&format!("started {} workers; what they say is under {}", workers.len(), logs.display()));
    }
    let progress = Watched::new(cells, store);
    let mut told = false;
    loop {
        std::thread::sleep(LOOK);
        let mut running = 0;
        for (worker, _) in &mut workers {
            running += usize::from(ended(worker)?.is_none());
        }
        progress.show();
        if signals.status().is_some() && !told {
            told = true;
            progress.line("asking the workers to save and end");
            // Its own have a lease yet or not; each is asked once, since a second signal ends it without saving.
            let own = workers.iter().map(|(worker, _)| worker.id());
            let all: BTreeSet<u32> = at_work(store)?.iter().map(|holder| holder.pid).chain(own).collect();
            all.into_iter().for_each(ask_to_end);
        }
        if running == 0 && (before == 0 || at_work(store)?.is_empty()) {
            break;
        }
    }
    progress.close();
    if let Some(status) = signals.status() {
        return Err(Failure::Interrupted { status });
    }
    let open = progress.open();
    if open > 0 {
        return Err(Failure::Run(anyhow::anyhow!(
            "the workers have ended, but {open} of {} cells have no record; {}",
            cells.len(),
            said_last(&workers)
        )));
    }
    Ok(())
}

/// The cards that workers are spread over, as `CUDA_VISIBLE_DEVICES` names them; none where the device is no CUDA card.
fn cards(named: &device::Named) -> Vec<String> {
    let Some((kind, _)) = named.name.split_once("cuda:") else { return Vec::new() };
    if kind != "tch:" {
        return Vec::new();
    }
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    if let Some(visible) = visible.filter(|visible| !visible.trim().is_empty()) {
        return visible.split(',').map(|card| card.trim().to_owned()).collect();
    }
    let is_card = |found: &&device::Described| {
        found.backend == Backend::Tch && found.card.is_some() && matches!(found.state, State::Present)
    };
    (0..device::inventory().devices.iter().filter(is_card).count()).map(|card| card.to_string()).collect()
}

/// One more worker: this program with the arguments that it was given, but for the launcher.
fn start(count: usize, card: Option<&str>, log: &Path) -> Result<Child, Failure> {
    let failed =
        |what: &str, error: std::io::Error| Failure::Run(anyhow::anyhow!("cannot start a worker: {what}: {error}"));
    let program = std::env::current_exe().map_err(|error| failed("this program", error))?;
    let said = File::create(log).map_err(|error| failed(&log.display().to_string(), error))?;
    let mut command = Command::new(program);
    command.args(arguments(std::env::args().skip(1), card.is_some())).args(["--among", &count.to_string()]);
    if card.is_none() && !given("--workers") {
        command.args(["--workers", "1"]);
    }
    if let Some(card) = card {
        command.env("CUDA_VISIBLE_DEVICES", card);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
    // A signal of the terminal is for the launcher, which hands it on once: a second one ends a worker without saving.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map_err(|error| failed("spawn", error))
}

fn given(option: &str) -> bool {
    std::env::args().any(|argument| argument == option || argument.starts_with(&format!("{option}=")))
}

/// The launcher's arguments as a worker has them. On cards each worker sees one, whose number there is 0.
fn arguments(all: impl Iterator<Item = String>, on_cards: bool) -> Vec<String> {
    let mut kept = Vec::new();
    let mut skips = false;
    for argument in all {
        let name = argument.split('=').next().unwrap_or_default();
        let is_left_out = name == "--launcher" || name == "--among" || (on_cards && name == "--device");
        if is_left_out {
            skips = !argument.contains('=');
        } else if !std::mem::take(&mut skips) {
            kept.push(argument);
        }
    }
    if on_cards {
        kept.extend(["--device".to_owned(), "tch:cuda:0".to_owned()]);
    }
    kept
}

/// Processes of this machine that are at work on the study.
fn at_work(store: &Store) -> Result<Vec<Holder>, Failure> {
    let all = holders(&store.leases_dir(), WORKER)?.into_iter();
    Ok(all.map(|(_, holder)| holder).filter(Holder::is_alive_here).collect())
}

/// Whether a worker has ended, and well.
fn ended(worker: &mut Child) -> Result<Option<bool>, Failure> {
    let status = worker.try_wait().map_err(|error| Failure::Run(anyhow::anyhow!("a worker: {error}")))?;
    Ok(status.map(|status| status.success()))
}

#[cfg(unix)]
fn ask_to_end(process: u32) {
    let id = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    // One that has just ended hears nothing.
    let _ = id.map(|id| rustix::process::kill_process(id, rustix::process::Signal::TERM));
}

#[cfg(not(unix))]
fn ask_to_end(_process: u32) {}

/// What the workers that failed said last.
fn said_last(workers: &[(Child, PathBuf)]) -> String {
    for (_, log) in workers {
        let text = fs::read_to_string(log).unwrap_or_default();
        if let Some(at) = text.rfind("error: ") {
            return format!("{} ends with\n\n{}", log.display(), text[at..].trim_end());
        }
    }
    "their logs say why".to_owned()
}

/// Progress of a study that others train.
struct Watched<'a> {
    cells: &'a [Cell],
    store: &'a Store,
    bar: ProgressBar,
    plain: bool,
    begun: Instant,
    before: usize,
    printed: std::cell::Cell<Option<Instant>>,
}

impl<'a> Watched<'a> {
    fn new(cells: &'a [Cell], store: &'a Store) -> Self {
        let plain = !std::io::stderr().is_terminal();
        let target = if plain { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(cells.len() as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} cells, {msg}") {
            bar.set_style(style);
        }
        let mut own =
            Self { cells, store, bar, plain, begun: Instant::now(), before: 0, printed: std::cell::Cell::new(None) };
        own.before = cells.len() - own.open();
        own
    }

    fn open(&self) -> usize {
        self.cells.iter().filter(|cell| self.store.record_stamp(&cell.id).is_none()).count()
    }

    fn show(&self) {
        let done = self.cells.len() - self.open();
        let left = match done.saturating_sub(self.before) {
            0 => String::new(),
            _ if done == self.cells.len() => String::new(),
            made => {
                let each = self.begun.elapsed().as_secs_f64() / made as f64;
                let left = Duration::from_secs_f64(each * (self.cells.len() - done) as f64);
                format!(", about {} left", HumanDuration(left))
            }
        };
        let at_work = holders(&self.store.leases_dir(), WORKER).unwrap_or_default();
        let first = at_work.iter().map(|(_, holder)| &holder.note).find(|note| !note.is_empty());
        let doing = first.map(|note| format!(", {note}")).unwrap_or_default();
        let workers = if at_work.len() == 1 { "worker" } else { "workers" };
        let message = format!("{} {workers}{doing}{left}", at_work.len());
        self.bar.set_position(done as u64);
        self.bar.set_message(message.clone());
        // The first look says nothing that the start did not.
        let is_due = self.printed.get().is_none_or(|printed| printed.elapsed() > PAUSE);
        if self.plain && is_due && self.printed.replace(Some(Instant::now())).is_some() {
            note(&format!("{done}/{} cells, {message}", self.cells.len()));
        }
    }

    fn line(&self, text: &str) {
        if self.plain { note(text) } else { self.bar.println(text) }
    }

    fn close(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_is_written_with_its_number_of_workers() {
        assert_eq!("local".parse(), Ok(Launcher::Local(None)));
        assert_eq!("local:3".parse(), Ok(Launcher::Local(Some(3))));
        for (text, wanted) in
            [("local:0", "`0` is no number"), ("local:x", "`x` is no number"), ("slurm", "`slurm` is no launcher")]
        {
            let message = text.parse::<Launcher>().unwrap_err();
            assert!(message.starts_with(wanted), "{message}");
        }
    }

    #[test]
    fn a_worker_has_the_launchers_arguments() {
        let of = |text: &str, on_cards| arguments(text.split(' ').map(str::to_owned), on_cards).join(" ");
        assert_eq!(of("run x.yaml --launcher local:2 --set a=1", false), "run x.yaml --set a=1");
        assert_eq!(
            of("--results r run --launcher=local x.yaml --device cpu", false),
            "--results r run x.yaml --device cpu"
        );
        assert_eq!(of("run x.yaml --device tch:cuda:1 --launcher local", true), "run x.yaml --device tch:cuda:0");
        assert_eq!(of("run x.yaml --device=auto", true), "run x.yaml --device tch:cuda:0");
    }
}
