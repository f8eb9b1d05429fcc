//! `--launcher local:N`: starts workers on this machine, one for each card or core, and watches them.
//!
//! A worker is this program with the same arguments, in a process group of its own: whoever stops the launcher asks the workers once to save and
//! end. Where the launcher itself is killed, they go on, and the same command again watches them and starts those that lack.

use std::{
    collections::BTreeSet,
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use assets::device::{self, Backend, State};
use experiment::cell::Cell;
use record::{Holder, Store, WORKER, holders};

use super::{Lacking, given, logs, said_last, watched::Watched, without_launcher};
use crate::{failure::Failure, signals::Signals, terminal::note};

/// Pause between two looks at the study.
const LOOK: Duration = Duration::from_millis(200);

/// Starts the workers that lack, and stays until all have ended.
pub(in super::super) fn launch(
    wanted: Option<usize>,
    named: &device::Named,
    (cells, lacking): (&[Cell], Lacking),
    store: &Store,
    signals: &Signals,
) -> Result<(), Failure> {
    let cards = cards(named);
    let count = wanted.unwrap_or_else(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if cards.is_empty() { cores } else { cards.len() }
    });
    store.prepare()?;
    // Those that an earlier launcher has left.
    let before = at_work(store)?.len();
    let logs = logs(store)?;
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
    let progress = Watched::new(cells, &lacking, store);
    let mut told = false;
    loop {
        std::thread::sleep(LOOK);
        let mut running = 0;
        for (worker, _) in &mut workers {
            running += usize::from(ended(worker)?.is_none());
        }
        progress.show("");
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
            said_last(workers.iter().map(|(_, log)| log.as_path()))
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

/// The launcher's arguments as a worker has them. On cards each worker sees one, whose number there is 0.
fn arguments(all: impl Iterator<Item = String>, on_cards: bool) -> Vec<String> {
    let mut kept = without_launcher(all, if on_cards { &["--device"] } else { &[] });
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

#[cfg(test)]
mod tests {
    use super::*;

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
