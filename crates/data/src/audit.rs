//! What a user should know of a task's splits before trusting its metrics. Nothing is refused; every finding is a note.
//!
//! | finding | figure | said |
//! |---|---|---|
//! | texts of an evaluation or test split that train has as well | their number | from 1 on |
//! | classes that no row of an evaluation split has | their names | always |
//! | a split that was cut from train | its examples, and the two above | always |
//! | the label can be read off the row's place in the file, or off the length of a text | what it takes off a guess | from 50% on |
//!
//! **What it takes off a guess.** The rows of train are put into groups by place or by length. For classes the figure is Goodman and
//! Kruskal's λ: of the errors of always guessing the most frequent label, the share that is gone where each group's most frequent label
//! is guessed. For scores it is the correlation ratio η²: the share of the scores' variance that lies between the groups. Places are
//! grouped into stretches of the file and, in case labels come in a cycle, by the remainder of the place divided by 2 to 10; lengths
//! into stretches of the rows sorted by length, rows of one length staying together.
//!
//! A group has a 20th of the rows and at least 20, and a train split of fewer than 100 rows is not looked at. Labels that have nothing to
//! do with the groups then give a λ of about 0.2 at most (two even classes in groups of 20) and an η² of about 1/20, so that half is far
//! from chance.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::task::{Dataset, Example, Objective};

/// Share of a guess's errors, or of the scores' variance, from which on a note is written.
const THRESHOLD: f64 = 0.5;
/// Rows of a group.
const LEAST: usize = 20;
/// Groups of a split.
const GROUPS: usize = 20;
/// Rows of the smallest split that is looked at.
const SMALLEST: usize = 5 * LEAST;
/// Cycles of labels that are looked for.
const CYCLES: std::ops::RangeInclusive<usize> = 2..=10;

/// Every finding of a task whose examples are known.
pub fn notes(dataset: &Dataset) -> Vec<String> {
    let mut notes = Vec::new();
    let train: HashSet<_> = dataset.train.iter().map(texts).collect();
    let evaluation = dataset.evaluation.iter().map(|(split, examples)| (split.as_str(), examples));
    for (split, examples) in evaluation.chain([("test", &dataset.test)]) {
        let shared = examples.iter().filter(|example| train.contains(&texts(example))).count();
        let is_labelled = examples.iter().all(|example| example.label.is_finite());
        let so = if is_labelled { MEASURED } else { PREDICTED };
        notes.extend(shared_note(split, ("texts", so), shared, examples.len()));
    }
    for (split, examples) in &dataset.evaluation {
        notes.extend(absent_note(split, examples, &dataset.info.objective));
    }
    let train = Labelled { examples: &dataset.train, objective: &dataset.info.objective };
    notes.extend(train.note_of_place());
    notes.extend(train.note_of_length());
    notes
}

/// Every finding of a split that was cut from train by a seed, which is the task's only one.
pub fn notes_of_cut(cut: &Dataset, seed: u64) -> Vec<String> {
    let Dataset { info, train, evaluation, .. } = cut;
    let known: HashSet<_> = train.iter().map(texts).collect();
    let mut notes = Vec::new();
    for (split, examples) in evaluation {
        let shared = examples.iter().filter(|example| known.contains(&texts(example))).count();
        let named = format!("{}, {split} of seed {seed}", info.name);
        notes.push(cut_note(&info.name, split, (examples.len(), train.len()), "training examples"));
        notes.extend(shared_note(&named, ("texts", MEASURED), shared, examples.len()));
        notes.extend(absent_note(&named, examples, &info.objective));
    }
    notes
}

/// How large a split is that was cut from train: what is chosen by few examples is chosen by chance.
pub(crate) fn cut_note(task: &str, split: &str, (held, kept): (usize, usize), what: &str) -> String {
    format!("{task}, {split}: settings are chosen on {held} of {} {what}", held + kept)
}

fn texts(example: &Example) -> (&str, Option<&str>) {
    (&example.first, example.second.as_deref())
}

/// What tells an item of a file from others: whatever the file says of it, before a length limit cuts its tokens.
pub(crate) fn fingerprint(item: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    item.hash(&mut hasher);
    hasher.finish()
}

/// The note of an evaluation split of texts that a model continues, where train has some of its items as well; of every item its
/// fingerprint.
pub(crate) fn shared_items_note(name: &str, train: &[u64], split: &[u64]) -> Option<String> {
    let known: HashSet<u64> = train.iter().copied().collect();
    let shared = split.iter().filter(|item| known.contains(*item)).count();
    shared_note(name, ("items", MEASURED), shared, split.len())
}

/// What follows for a split that is measured.
const MEASURED: &str = "its metrics count what was seen in training";
/// What follows for a split without labels, of which nothing is measured.
const PREDICTED: &str = "it has no labels, so that no metric counts them, but their labels in train were learnt";

fn shared_note(split: &str, (what, so): (&str, &str), shared: usize, all: usize) -> Option<String> {
    (shared > 0).then(|| format!("{split}: {what} that train has as well: {shared} of {all}; {so}"))
}

/// Names that a note shows.
const SHOWN: usize = 8;

fn absent_note(split: &str, examples: &[Example], objective: &Objective) -> Option<String> {
    let Objective::Classification { labels } = objective else { return None };
    let present: HashSet<u32> = examples.iter().map(|example| example.label.to_bits()).collect();
    let absent = labels.iter().enumerate().filter(|(id, _)| !present.contains(&(*id as f32).to_bits()));
    let absent: Vec<&str> = absent.map(|(_, label)| label.as_str()).collect();
    let (shown, more) =
        (absent[..absent.len().min(SHOWN)].join("`, `"), if absent.len() > SHOWN { ", .." } else { "" });
    let note = || format!("{split}: no row has the label `{shown}`{more}; its metrics say nothing of it");
    (!absent.is_empty()).then(note)
}

/// What a grouping of the rows takes off a guess of their labels.
type Figure = fn(&[usize], &[f32]) -> f64;

/// The rows of train with what they are to teach.
#[derive(Clone, Copy)]
struct Labelled<'a> {
    examples: &'a [Example],
    objective: &'a Objective,
}

impl Labelled<'_> {
    fn note_of_place(self) -> Option<String> {
        let n = self.examples.len();
        let stretches = (0..n).map(|row| row / group_size(n)).collect();
        let cycles = CYCLES.map(|cycle| (0..n).map(|row| row % cycle).collect());
        let figure = self.largest(std::iter::once(stretches).chain(cycles))?;
        Some(format!(
            "train: a row's place in the file alone {figure}: rows are sorted by their label or come in a cycle; see to it that no text \
             holds the number of its row"
        ))
    }

    fn note_of_length(self) -> Option<String> {
        let length = |text: &str| text.chars().count();
        let second = |example: &Example| example.second.as_deref().map_or(0, length);
        let of_both: Vec<usize> = self.examples.iter().map(|e| length(&e.first) + second(e)).collect();
        let of_first = self.examples.iter().map(|e| length(&e.first)).collect();
        let of_second = self.examples.iter().map(second).collect();
        let is_pair = self.examples.iter().any(|example| example.second.is_some());
        let lengths = if is_pair { vec![of_both, of_first, of_second] } else { vec![of_both] };
        let figure = self.largest(lengths.iter().map(|lengths| by_size(lengths)))?;
        Some(format!(
            "train: the length of a text alone {figure}: a model may learn lengths in place of the task; even them out between labels"
        ))
    }

    /// The largest figure of several ways to group the rows, in words, where it is large enough.
    fn largest(self, groupings: impl Iterator<Item = Vec<usize>>) -> Option<String> {
        let labels: Vec<f32> = self.examples.iter().map(|example| example.label).collect();
        if labels.len() < SMALLEST {
            return None;
        }
        let (figure, says): (Figure, _) = match self.objective {
            Objective::Classification { .. } => (lambda, "of the errors of guessing the most frequent label"),
            Objective::Regression { .. } => (eta_squared, "of the variance of the scores"),
            Objective::Text => return None,
        };
        let largest = groupings.map(|groups| figure(&groups, &labels)).fold(0.0, f64::max);
        let percent = 100.0 * largest;
        (largest >= THRESHOLD)
            .then(|| format!("takes off {percent:.0}% {says} (said from {:.0}% on)", 100.0 * THRESHOLD))
    }
}

fn group_size(rows: usize) -> usize {
    rows.div_ceil(GROUPS).max(LEAST)
}

/// The group of every row: stretches of the rows in the order of their sizes, equal ones together.
fn by_size(sizes: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&row| sizes[row]);
    let (mut groups, mut group, mut filled) = (vec![0; sizes.len()], 0, 0);
    for (at, &row) in order.iter().enumerate() {
        let differs = at > 0 && sizes[row] != sizes[order[at - 1]];
        if differs && filled >= group_size(sizes.len()) {
            (group, filled) = (group + 1, 0);
        }
        groups[row] = group;
        filled += 1;
    }
    groups
}

/// Goodman and Kruskal's λ of class ids given groups.
fn lambda(groups: &[usize], labels: &[f32]) -> f64 {
    let most = |ids: &mut dyn Iterator<Item = usize>| ids.max().map_or(1, |largest| largest + 1);
    let classes = most(&mut labels.iter().map(|label| *label as usize));
    let mut counts = vec![0usize; most(&mut groups.iter().copied()) * classes]; // [groups, classes]
    for (group, label) in groups.iter().zip(labels) {
        counts[group * classes + *label as usize] += 1;
    }
    let right: usize = counts.chunks(classes).filter_map(|group| group.iter().max()).sum();
    let of_class = |class| counts.iter().skip(class).step_by(classes).sum::<usize>();
    let guessed = (0..classes).map(of_class).max().unwrap_or(0);
    let errors = labels.len() - guessed;
    if errors == 0 { 0.0 } else { (right - guessed) as f64 / errors as f64 }
}

/// The correlation ratio η² of scores given groups.
fn eta_squared(groups: &[usize], scores: &[f32]) -> f64 {
    let scores: Vec<f64> = scores.iter().map(|score| f64::from(*score)).collect();
    let centre = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    let mut sums: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for (group, score) in groups.iter().zip(&scores) {
        let (rows, sum) = sums.entry(*group).or_default();
        (*rows, *sum) = (*rows + 1.0, *sum + score - centre);
    }
    let variance: f64 = scores.iter().map(|score| (score - centre).powi(2)).sum();
    let between: f64 = sums.values().map(|(rows, sum)| sum.powi(2) / rows).sum();
    if variance > 0.0 { between / variance } else { 0.0 }
}
