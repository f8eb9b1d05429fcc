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
use record::{Asked, CohortChange, Lease, Leases, Store, WORKER, write_atomic};
use serde::{Deserialize, Serialize};

use super::{
    context::StudyContext,
    group,
    outline::{Outline, Outlines},
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

/// Cells that are to be trained, each with the record that it had before it was asked whether it is to be: one that has another since has ended,
/// whoever trained it.
#[derive(Debug, Default)]
pub(super) struct Outstanding(BTreeMap<String, Option<(SystemTime, u64)>>);

impl Outstanding {
    /// All cells, before it is known which of them are to be trained.
    pub(super) fn before<'a>(cells: impl Iterator<Item = &'a Cell>, store: &Store) -> Self {
        Self(cells.map(|cell| (cell.id.slug(), store.record_stamp(&cell.id))).collect())
    }

    /// Those of `open` alone.
    pub(super) fn of(mut self, open: &BTreeSet<String>) -> Self {
        self.0.retain(|slug, _| open.contains(slug));
        self
    }

    /// Whether a cell was to be trained when the study began here.
    fn was_open(&self, cell: &Cell) -> bool {
        self.0.contains_key(&cell.id.slug())
    }

    /// Whether a cell is still to be trained.
    pub(super) fn is_open(&self, cell: &Cell, store: &Store) -> bool {
        let before = self.0.get(&cell.id.slug());
        before.is_some_and(|before| {
            let now = store.record_stamp(&cell.id);
            now.is_none() || now == *before
        })
    }
}

/// A cohort that is to be trained, by this process or another.
#[derive(Debug)]
pub(super) struct Planned {
    /// Its name, and that of the lease on it.
    pub name: String,
    /// Its cells.
    pub cells: Vec<Cell>,
    /// How it came to be smaller than was planned.
    pub changes: Vec<CohortChange>,
    /// How many of its cells were to be trained when this process planned, and their steps.
    pub counted: (usize, u64),
}

impl Planned {
    fn new(outline: Outline, changes: Vec<CohortChange>, is_counted: impl Fn(&Cell) -> bool) -> Self {
        let Outline { name, cells, steps } = outline;
        let counts = |(cell, _): &(&Cell, u64)| is_counted(cell);
        let of =
            cells.iter().zip(steps).filter(counts).fold((0, 0), |(cells, all), (_, steps)| (cells + 1, all + steps));
        Self { name, cells, changes, counted: of }
    }

    /// Cells whose runs have not ended.
    pub(super) fn open(&self, outstanding: &Outstanding, store: &Store) -> Vec<&Cell> {
        self.cells.iter().filter(|cell| outstanding.is_open(cell, store)).collect()
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

/// Agrees on the cohorts of a level, under the lease on planning. None where that was lost: whoever has it now may have agreed on others.
pub(super) fn agree(
    cells: &[(&Cell, usize)],
    level: usize,
    outstanding: &Outstanding,
    outlines: &mut Outlines,
    (leases, planning): (&Leases, &Lease),
    context: &StudyContext<'_>,
) -> Result<Option<Level>, TrainError> {
    let store = context.store;
    let is_open = |cell: &Cell| outstanding.is_open(cell, store);
    let open: BTreeSet<String> =
        cells.iter().filter(|(cell, _)| is_open(cell)).map(|(cell, _)| cell.id.slug()).collect();
    let agreed = read(context, leases)?;
    let of_level: BTreeMap<String, &Cell> =
        cells.iter().filter(|(_, of)| *of == level).map(|(cell, _)| (cell.id.slug(), *cell)).collect();
    let (mut taken, mut cohorts, mut others) = (BTreeSet::new(), Vec::new(), Vec::new());
    // First what somebody trains: its folder is no business of others.
    let at_work = in_work(leases, &agreed)?;
    let (theirs, rest): (Vec<Agreed>, Vec<Agreed>) = agreed.into_iter().partition(|own| at_work.contains(&own.name));
    for own in theirs {
        taken.extend(own.slugs.iter().cloned());
        if let Some(outline) = planned_again(&own, &of_level, outlines, context)? {
            cohorts.push(Planned::new(outline, own.changes, |cell| outstanding.was_open(cell)));
        } else if own.slugs.iter().any(|slug| of_level.contains_key(slug)) {
            return Err(mixed(&own, leases, context)?);
        } else {
            others.push(own);
        }
    }
    let Unfinished { plans, ended, stale } = resume::resumable(cells, level, [&taken, &open], context)?;
    let unfinished = plans.iter().flat_map(CohortPlan::cells).map(|cell| cell.id.slug()).collect();
    for plan in plans {
        taken.extend(plan.cells().into_iter().map(|cell| cell.id.slug()));
        cohorts.push(Planned::new(Outline::of(&plan), plan.changes, |_| true));
    }
    // What was agreed on and is not begun. What is not wanted any more, or means something else now, is planned anew.
    for own in rest {
        if !own.slugs.iter().any(|slug| of_level.contains_key(slug)) {
            others.push(own);
        } else if own.slugs.iter().all(|slug| !taken.contains(slug) && open.contains(slug)) {
            match planned_again(&own, &of_level, outlines, context)? {
                Some(outline) => {
                    taken.extend(own.slugs.iter().cloned());
                    cohorts.push(Planned::new(outline, own.changes, |_| true));
                }
                None if leases.alive(WORKER)?.is_some() => return Err(mixed(&own, leases, context)?),
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
    for cells in group::in_order(&new, cells, context)? {
        cohorts.push(Planned::new(outlines.take(&cells, context)?, Vec::new(), |_| true));
    }
    if !planning.check() {
        return Ok(None);
    }
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
    Ok(Some(Level { cohorts, unfinished, discarded }))
}

impl Agreed {
    fn of(planned: &Planned) -> Self {
        let slugs = planned.cells.iter().map(|cell| cell.id.slug()).collect();
        Self { name: planned.name.clone(), slugs, changes: planned.changes.clone() }
    }
}

/// The agreed cohort as it is planned now; none where it would have another name, or other cells than are wanted.
fn planned_again(
    own: &Agreed,
    wanted: &BTreeMap<String, &Cell>,
    outlines: &mut Outlines,
    context: &StudyContext<'_>,
) -> Result<Option<Outline>, TrainError> {
    let cells: Option<Vec<Cell>> = own.slugs.iter().map(|slug| Some((*wanted.get(slug)?).clone())).collect();
    let Some(cells) = cells.filter(|cells| !cells.is_empty()) else { return Ok(None) };
    let outline = outlines.take(&cells, context)?;
    Ok((outline.name == own.name).then_some(outline))
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
    let holder = leases.alive(WORKER)?.map_or_else(|| "another process".to_owned(), |holder| holder.to_string());
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
    match leases.alive(WORKER)?.filter(|_| !found.cohorts.is_empty()) {
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
    leases.clear(WORKER)?;
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
pub(super) struct Board<'a> {
    cohorts: Vec<Planned>,
    outstanding: &'a Outstanding,
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

impl<'a> Board<'a> {
    pub(super) fn new(cohorts: Vec<Planned>, outstanding: &'a Outstanding) -> Self {
        let states = Mutex::new(vec![State::Free; cohorts.len()]);
        Self { cohorts, outstanding, states }
    }

    /// Cells of a cohort whose runs have not ended.
    pub(super) fn open<'b>(&self, planned: &'b Planned, store: &Store) -> Vec<&'b Cell> {
        planned.open(self.outstanding, store)
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
                if self.open(cohort, store).is_empty() {
                    states[index] = State::Done;
                    ended(cohort);
                    continue;
                }
                let Asked::Taken(lease) = leases.take(&cohort.name)? else {
                    states[index] = State::Elsewhere;
                    continue;
                };
                // Its owner may have ended it between the two questions.
                if self.open(cohort, store).is_empty() {
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
