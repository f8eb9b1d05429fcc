//! A study that several processes work on.
//!
//! What is to be trained is agreed on in a file, which whoever has the lease `plan` reads and adds to; and whoever trains a cohort has a lease on
//! it. So every process that is started on a study is one more worker of it, which takes what is free, and what others left. A process
//! sees that a run has ended by its record alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
    time::SystemTime,
};

use experiment::cell::Cell;
use record::{Asked, CohortChange, Lease, Leases, Store, write_atomic};
use serde::{Deserialize, Serialize};

use super::{
    context::StudyContext,
    group,
    plan::CohortPlan,
    remove,
    resume::{self, Unfinished},
};
use crate::error::TrainError;

/// What the cohorts of a study are, for all who work on it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Agreement {
    /// The code and the device that it was made by: cohorts of others are called otherwise.
    code: String,
    device: String,
    cohorts: Vec<Agreed>,
}

/// One cohort.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Agreed {
    name: String,
    slugs: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changes: Vec<CohortChange>,
}

/// How a cell's record was when the work was planned.
type Stamp = Option<(SystemTime, u64)>;

/// A cohort that is to be trained, by this process or another.
#[derive(Debug)]
pub(super) struct Planned {
    /// Its name, and that of the lease on it.
    pub name: String,
    /// Its cells, each with the record that it had.
    pub cells: Vec<(Cell, Stamp)>,
    /// How it came to be smaller than was planned.
    pub changes: Vec<CohortChange>,
    /// Steps of all its runs.
    pub steps: u64,
}

impl Planned {
    fn new(plan: &CohortPlan, store: &Store) -> Self {
        let cells = plan.cells().into_iter().map(|cell| (cell.clone(), store.record_stamp(&cell.id))).collect();
        Self { name: plan.id().to_owned(), cells, changes: plan.changes.clone(), steps: plan.steps() }
    }

    /// Cells whose runs have not ended since.
    pub(super) fn open(&self, store: &Store) -> Vec<&Cell> {
        let is_open = |(cell, before): &&(Cell, Stamp)| {
            let now = store.record_stamp(&cell.id);
            now.is_none() || now == *before
        };
        self.cells.iter().filter(is_open).map(|(cell, _)| cell).collect()
    }
}

/// What one level of a study comes to.
#[derive(Debug)]
pub(super) struct Level {
    /// Its cohorts, in the order in which they are begun.
    pub cohorts: Vec<Planned>,
    /// Cells of unfinished cohorts, which count as unfinished even where a record is there.
    pub unfinished: BTreeSet<String>,
    /// Unfinished cohorts that began again.
    pub discarded: usize,
}

/// Agrees on the cohorts of a level; the caller has the lease `plan`. `open` are the slugs of all cells that are to be trained.
pub(super) fn agree(
    cells: &[(&Cell, usize)],
    level: usize,
    open: &BTreeSet<String>,
    leases: &Leases,
    context: &StudyContext<'_>,
) -> Result<Level, TrainError> {
    let store = context.store;
    let agreed = read(context, leases)?;
    let of_level: BTreeMap<String, &Cell> =
        cells.iter().filter(|(_, of)| *of == level).map(|(cell, _)| (cell.id.slug(), *cell)).collect();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut plans = Vec::new();
    let mut others = Vec::new();
    // First what somebody trains: its folder is no business of others.
    let at_work = in_work(leases, &agreed)?;
    let (theirs, rest): (Vec<Agreed>, Vec<Agreed>) = agreed.into_iter().partition(|own| at_work.contains(&own.name));
    for own in &theirs {
        if let Some(plan) = planned_again(own, &of_level, context)? {
            taken.extend(own.slugs.iter().cloned());
            plans.push(plan);
        } else if own.slugs.iter().any(|slug| of_level.contains_key(slug)) {
            return Err(mixed(own, leases, context)?);
        } else {
            others.push(own.clone());
        }
    }
    let Unfinished { plans: resumed, ended, stale } = resume::resumable(cells, level, [&taken, open], context)?;
    let unfinished = resumed.iter().flat_map(CohortPlan::cells).map(|cell| cell.id.slug()).collect();
    for plan in resumed {
        taken.extend(plan.cells().into_iter().map(|cell| cell.id.slug()));
        plans.push(plan);
    }
    // What was agreed on and is not begun. What is not wanted any more, or means something else now, is planned anew.
    for own in rest {
        let is_of_level = own.slugs.iter().any(|slug| of_level.contains_key(slug));
        if !is_of_level {
            others.push(own);
        } else if own.slugs.iter().all(|slug| !taken.contains(slug) && open.contains(slug)) {
            match planned_again(&own, &of_level, context)? {
                Some(plan) => {
                    taken.extend(own.slugs.iter().cloned());
                    plans.push(plan);
                }
                None if leases.alive("worker-")?.is_some() => return Err(mixed(&own, leases, context)?),
                None => {}
            }
        }
    }
    let is_new = |slug: &String| open.contains(slug) && !taken.contains(slug);
    let new: Vec<Cell> = cells
        .iter()
        .filter(|(cell, of)| *of == level && is_new(&cell.id.slug()))
        .map(|(cell, _)| (*cell).clone())
        .collect();
    plans.extend(group::group(&new, context)?);
    let cohorts: Vec<Planned> = plans.iter().map(|plan| Planned::new(plan, store)).collect();
    write(&cohorts.iter().map(Agreed::of).chain(others).collect::<Vec<_>>(), context)?;
    let mut discarded = 0;
    for (folder, is_stale) in
        stale.iter().map(|folder| (folder, true)).chain(ended.iter().map(|folder| (folder, false)))
    {
        // Its owner may be about to remove it.
        if let Asked::Taken(_lease) = leases.take(resume::id_of(folder))? {
            remove(folder)?;
            discarded += usize::from(is_stale);
        }
    }
    Ok(Level { cohorts, unfinished, discarded })
}

impl Agreed {
    fn of(planned: &Planned) -> Self {
        let slugs = planned.cells.iter().map(|(cell, _)| cell.id.slug()).collect();
        Self { name: planned.name.clone(), slugs, changes: planned.changes.clone() }
    }
}

/// The agreed cohort as it is planned now; none where it would have another name, or other cells than are wanted.
fn planned_again(
    own: &Agreed,
    wanted: &BTreeMap<String, &Cell>,
    context: &StudyContext<'_>,
) -> Result<Option<CohortPlan>, TrainError> {
    let cells: Option<Vec<Cell>> = own.slugs.iter().map(|slug| Some((*wanted.get(slug)?).clone())).collect();
    let Some(cells) = cells.filter(|cells| !cells.is_empty()) else { return Ok(None) };
    let plan = CohortPlan::new(&cells, context)?.changed(own.changes.clone());
    Ok((plan.id() == own.name).then_some(plan))
}

/// Names of agreed cohorts that another process trains.
fn in_work(leases: &Leases, agreed: &[Agreed]) -> Result<BTreeSet<String>, TrainError> {
    let names: BTreeSet<&String> = agreed.iter().map(|own| &own.name).collect();
    let mut found = BTreeSet::new();
    for (name, _) in leases.holders("cohort-")? {
        if names.contains(&name) && matches!(leases.take(&name)?, Asked::Held(_)) {
            found.insert(name);
        }
    }
    Ok(found)
}

/// The error of a process whose study has other recipes, code or devices than those that are at work.
fn mixed(own: &Agreed, leases: &Leases, context: &StudyContext<'_>) -> Result<TrainError, TrainError> {
    let holder = leases.alive("worker-")?.map_or_else(|| "another process".to_owned(), |holder| holder.to_string());
    let what = format!("as another recipe, base, data, build or device than here ({})", own.slugs[0]);
    Ok(TrainError::OtherWork { path: context.store.directory().to_owned(), holder, what })
}

fn path(store: &Store) -> std::path::PathBuf {
    store.partial_dir().join("plan.json")
}

/// What was agreed on: nothing yet, where the file is not there or torn, or where all who agreed are gone and had another build or device.
fn read(context: &StudyContext<'_>, leases: &Leases) -> Result<Vec<Agreed>, TrainError> {
    let path = path(context.store);
    let found: Agreement = match assets::file::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Agreement::default(),
        Err(source) => return Err(TrainError::io(path, source)),
    };
    let what = if found.code != context.code.code_hash {
        "with another build"
    } else if found.device != context.device {
        "on another kind of device"
    } else {
        return Ok(found.cohorts);
    };
    match leases.alive("worker-")?.filter(|_| !found.cohorts.is_empty()) {
        Some(holder) => Err(TrainError::OtherWork {
            path: context.store.directory().to_owned(),
            holder: holder.to_string(),
            what: what.to_owned(),
        }),
        None => Ok(Vec::new()),
    }
}

fn write(cohorts: &[Agreed], context: &StudyContext<'_>) -> Result<(), TrainError> {
    let (code, device) = (context.code.code_hash.clone(), context.device.to_owned());
    let json = serde_json::to_vec(&Agreement { code, device, cohorts: cohorts.to_vec() });
    let json = json.unwrap_or_else(|error| unreachable!("strings are JSON: {error}"));
    Ok(write_atomic(&path(context.store), &json)?)
}

/// Forgets what was agreed on, where all of it is among the cohorts that have ended.
pub(super) fn conclude(
    ended: &BTreeSet<String>,
    leases: &Leases,
    context: &StudyContext<'_>,
) -> Result<(), TrainError> {
    // Whoever plans at this moment may add to it, and concludes it later.
    let Asked::Taken(_planning) = leases.take("plan")? else { return Ok(()) };
    leases.clear("worker-")?;
    if read(context, leases)?.iter().all(|own| ended.contains(&own.name)) {
        forget(context.store);
    }
    Ok(())
}

/// Forgets what was agreed on.
pub(super) fn forget(store: &Store) {
    // Best effort: what it says is held to the cells of whoever reads it.
    let _ = std::fs::remove_file(path(store));
}

/// How a cohort stands, for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// A thread of this process trains it.
    Here,
    /// Another process does, or did when it was last looked at.
    Elsewhere,
    Done,
}

/// The cohorts of a level, and how far they are.
#[derive(Debug)]
pub(super) struct Board {
    cohorts: Vec<Planned>,
    states: Mutex<Vec<State>>,
}

/// What a thread does next.
#[derive(Debug)]
pub(super) enum Next<'a> {
    /// Trains this cohort.
    Train(usize, &'a Planned, Lease),
    /// Others train what is left, and may leave it.
    Wait,
    /// Nothing is left.
    Nothing,
}

impl Board {
    pub(super) fn new(cohorts: Vec<Planned>) -> Self {
        let states = Mutex::new(vec![State::Free; cohorts.len()]);
        Self { cohorts, states }
    }

    /// The names of all, once all have ended.
    pub(super) fn ended_names(&self) -> Option<Vec<String>> {
        let all = locked(&self.states).iter().all(|state| *state == State::Done);
        all.then(|| self.cohorts.iter().map(|cohort| cohort.name.clone()).collect())
    }

    /// How many cohorts there are.
    pub(super) fn len(&self) -> usize {
        self.cohorts.len()
    }

    /// Looks for a cohort that nobody trains: first among those that nobody trained before. `ended` hears of those that others have ended.
    pub(super) fn next(
        &self,
        leases: &Leases,
        store: &Store,
        ended: &dyn Fn(&Planned),
    ) -> Result<Next<'_>, TrainError> {
        let mut states = locked(&self.states);
        for sought in [State::Free, State::Elsewhere] {
            for (index, cohort) in self.cohorts.iter().enumerate() {
                if states[index] != sought {
                    continue;
                }
                if cohort.open(store).is_empty() {
                    states[index] = State::Done;
                    ended(cohort);
                    continue;
                }
                let Asked::Taken(lease) = leases.take(&cohort.name)? else {
                    states[index] = State::Elsewhere;
                    continue;
                };
                // Its owner may have ended it between the two questions.
                if cohort.open(store).is_empty() {
                    states[index] = State::Done;
                    ended(cohort);
                    continue;
                }
                states[index] = State::Here;
                return Ok(Next::Train(index, cohort, lease));
            }
        }
        Ok(if states.contains(&State::Elsewhere) { Next::Wait } else { Next::Nothing })
    }

    /// Says how a cohort ended that was trained here: done, or lost to another process.
    pub(super) fn ended(&self, index: usize, is_done: bool) {
        locked(&self.states)[index] = if is_done { State::Done } else { State::Elsewhere };
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"))
}
