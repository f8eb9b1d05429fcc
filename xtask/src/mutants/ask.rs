//! Asks the tests about one mutant after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use super::{
    WORK,
    build::Crate,
    list::{Mutant, mutants},
    outcomes::{Outcome, Outcomes},
    reach::{End, LeftOut, Test, tests},
    read,
    report::equivalent,
    say,
    switch::LIVE,
    tree,
};

/// What is asked.
pub(super) struct Question<'a> {
    /// The crates; all where there is none.
    pub(super) packages: Vec<&'a str>,
    /// How many tests run at a time.
    pub(super) jobs: usize,
    /// A part of a file's name, to ask that file alone.
    pub(super) within: &'a str,
    /// The longest test that is asked.
    pub(super) under: Duration,
}

/// A test that takes five times as long as it does has noticed something, but for what the machine does beside it.
const SLOWER: u32 = 5;
const AT_LEAST: Duration = Duration::from_secs(10);

/// Asks about every mutant that has no outcome.
pub(super) fn ask(root: &Path, question: &Question) -> Result<(), String> {
    let plain = root.join(WORK).join("tree");
    tree::with_modules(root, &plain)?;
    let all = mutants(&plain)?;
    let left_out: Vec<LeftOut> = read(root, "mutants/left_out.yaml")?;
    let packages: BTreeSet<&str> = all.iter().map(|mutant| mutant.package.as_str()).collect();
    let chosen: Vec<&str> =
        if question.packages.is_empty() { packages.into_iter().collect() } else { question.packages.clone() };
    for package in chosen {
        ask_crate(root, &plain, (package, &all), question, &left_out)?;
    }
    Ok(())
}

fn ask_crate(
    root: &Path,
    plain: &Path,
    (package, all): (&str, &[Mutant]),
    question: &Question,
    left_out: &[LeftOut],
) -> Result<(), String> {
    let outcomes = Outcomes::of(root, package)?;
    let here = || all.iter().enumerate().filter(|(_, mutant)| mutant.package == package);
    let open = |mutant: &Mutant| {
        let asked = match outcomes.get(mutant) {
            Some(Outcome::PassesTheFast) => question.under < Duration::MAX,
            known => known.is_some(),
        };
        !asked && mutant.file.contains(question.within)
    };
    if !here().any(|(_, mutant)| open(mutant)) {
        say(&format!("{package}: every mutant has been asked"));
        return Ok(());
    }
    let known: BTreeMap<usize, bool> = here()
        .filter_map(|(index, mutant)| match outcomes.get(mutant)? {
            Outcome::DoesNotCompile => Some((index, false)),
            Outcome::CannotBeSwitched => Some((index, true)),
            _ => None,
        })
        .collect();
    let tree = root.join(WORK).join("switched/tree");
    let mut krate = Crate::new(root, (plain, tree), package, all, &known)?;
    krate.settle()?;
    let tests = tests(&krate, left_out)?;
    let switched = |index: &usize| !krate.dropped.contains(index);
    let mut open: Vec<usize> = here().filter(|(_, it)| open(it)).map(|(index, _)| index).filter(switched).collect();
    // Every test that runs it is asked about what is said to be the same program: last, since that takes longest.
    let same = equivalent(root)?;
    open.sort_by_cached_key(|index| {
        let text = crate::files::read(&root.join(&all[*index].file));
        let line = text.lines().nth(all[*index].line() - 1).unwrap_or_default().trim();
        same.iter().any(|it| it.is(&all[*index], line))
    });
    say(&format!("{package}: {} mutants to ask, {} are not behind a switch", open.len(), krate.dropped.len()));
    ask_all(&krate, &tests, &open, &outcomes, question)?;
    // Last, since it writes other text into the copy.
    compile_dropped(&mut krate, &known, &outcomes)
}

/// Finds out what is no program among the mutants that are not behind a switch.
fn compile_dropped(krate: &mut Crate, known: &BTreeMap<usize, bool>, outcomes: &Outcomes) -> Result<(), String> {
    krate.compile_dropped(known)?;
    for index in krate.dropped.iter().filter(|index| !known.contains_key(index)) {
        let refused = krate.unviable.contains(index);
        let outcome = if refused { Outcome::DoesNotCompile } else { Outcome::CannotBeSwitched };
        outcomes.put(&krate.mutants[*index], outcome, None)?;
    }
    Ok(())
}

/// Asks about the open mutants, several at a time.
fn ask_all(
    krate: &Crate,
    tests: &[Test],
    open: &[usize],
    outcomes: &Outcomes,
    question: &Question,
) -> Result<(), String> {
    let (next, problem) = (Mutex::new(open.iter().copied().enumerate()), Mutex::new(None));
    // The test that noticed the last mutant of a file is a good one to begin with.
    let last: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let start = Instant::now();
    let work = || {
        while let Some((at, index)) = { next.lock().expect("no thread panics with it").next() } {
            let mutant = &krate.mutants[index];
            let favourite = last.lock().expect("no thread panics with it").get(&mutant.file).copied();
            let done = ask_one(krate, (tests, question.under), index, favourite).and_then(|(outcome, test)| {
                if let (Outcome::Noticed, Some(test)) = (outcome, test) {
                    last.lock().expect("no thread panics with it").insert(mutant.file.clone(), test);
                } else {
                    say(&format!("{}:{}: {} {outcome:?}", mutant.file, mutant.at, mutant.change));
                }
                outcomes.put(mutant, outcome, test.map(|test| tests[test].name.clone()))
            });
            if let Err(error) = done {
                *problem.lock().expect("no thread panics with it") = Some(error);
                return;
            }
            if (at + 1).is_multiple_of(50) {
                say(&format!(
                    "{}: {} of {} asked in {} s",
                    krate.package,
                    at + 1,
                    open.len(),
                    start.elapsed().as_secs()
                ));
            }
        }
    };
    std::thread::scope(|scope| (0..question.jobs.max(1)).for_each(|_| drop(scope.spawn(work))));
    problem.into_inner().expect("no thread panics with it").map_or(Ok(()), Err)
}

/// What the tests say that run a mutant, and which of them failed.
fn ask_one(
    krate: &Crate,
    (tests, under): (&[Test], Duration),
    index: usize,
    favourite: Option<usize>,
) -> Result<(Outcome, Option<usize>), String> {
    let (number, site) = krate.numbers[&index];
    let runs = |at: &usize| tests[*at].sites.contains(&site);
    let asked = |at: &usize| runs(at) && tests[*at].time <= under;
    let first = favourite.filter(asked);
    let others = (0..tests.len()).filter(|at| asked(at) && Some(*at) != first);
    let passed = match tests.iter().filter(|test| test.sites.contains(&site)).map(|test| test.time).max() {
        None => Outcome::NoTestRunsIt,
        Some(slowest) if slowest > under => Outcome::PassesTheFast,
        Some(_) => Outcome::Survives,
    };
    for at in first.into_iter().chain(others) {
        let limit = AT_LEAST.max(tests[at].time * SLOWER);
        match tests[at].run((LIVE, &number.to_string()), limit)? {
            End::Failed => return Ok((Outcome::Noticed, Some(at))),
            End::OutOfTime => return Ok((Outcome::OutOfTime, Some(at))),
            End::Passed => {}
        }
    }
    Ok((passed, None))
}
