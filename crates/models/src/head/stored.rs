//! The classification head that lies in a checkpoint, with the names of its outputs.

use crate::{
    config::{Config, labels},
    weights::{Start, Wanted, Weights},
};

/// A checkpoint's classification head, if it has one.
#[derive(Clone, Debug, Default)]
pub struct StoredHead {
    /// Without tensors where there is no head, or not a whole one.
    tensors: Weights,
    /// Name of the last map's weight, `[outputs, d]`.
    last: &'static str,
    /// Names of its outputs, where config.json gives them any.
    labels: Option<Vec<String>>,
    /// What keeps it from being used.
    broken: Option<String>,
}

impl StoredHead {
    /// The head among a checkpoint's tensors; `other` says why it cannot be used, where its config.json does.
    pub fn new(config: &Config, weights: &Weights, labels: Option<Vec<String>>, other: Option<String>) -> Self {
        let names = config.head_names();
        let last = names.iter().rev().find(|name| name.ends_with("weight")).copied().unwrap_or_default();
        let is_there = names.iter().any(|name| weights.shape(name).is_some());
        let broken = broken(weights, names, last, config.hidden_size()).or_else(|| other.filter(|_| is_there));
        let tensors = if broken.is_some() { Weights::default() } else { weights.only(names) };
        Self { tensors, last, labels, broken }
    }

    /// Whether a tensor of the checkpoint belongs to it and can be used.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.find(name).is_some()
    }

    /// A tensor of it.
    pub fn find(&self, name: &str) -> Option<(&[usize], &[f32])> {
        self.tensors.find(name)
    }

    /// Name and number of outputs of its last map; none where there is no head.
    pub fn outputs(&self) -> Option<(&'static str, usize)> {
        let (shape, _) = self.tensors.find(self.last)?;
        Some((self.last, *shape.first()?))
    }

    /// What keeps a head that is there from being used.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Its tensors, the outputs in the order of the file.
    pub fn in_file_order(&self) -> &Weights {
        &self.tensors
    }

    /// Its tensors with the outputs in the order of a task's labels, and what there is to say of it. A score has one output and no labels.
    pub fn for_task(&self, outputs: usize, labels: &[String]) -> (Weights, Option<String>) {
        let as_stored = |note: Option<String>| (self.tensors.clone(), note);
        let Some((name, found)) = self.outputs() else {
            let of_broken =
                |broken: &String| format!("the checkpoint's head is not used, and a new one is drawn: {broken}");
            return as_stored(self.broken.as_ref().map(of_broken));
        };
        if found != outputs {
            return as_stored(Some(format!(
                "the checkpoint's head `{name}` has {found} outputs and the task {outputs}, so a new head is drawn"
            )));
        }
        let Some(names) = self.labels.as_ref().filter(|_| !labels.is_empty()) else { return as_stored(None) };
        let Some(order) = labels::order(names, labels) else {
            return as_stored(Some(format!(
                "config.json calls the outputs of the checkpoint's head {}, which are not the task's labels {}; they are taken in the \
                 order of the file",
                names.join(", "),
                labels.join(", ")
            )));
        };
        if order.iter().enumerate().all(|(at, from)| at == *from) {
            return as_stored(None);
        }
        let note = format!(
            "the outputs of the checkpoint's head are {}; they are put in the order of the task's labels {}",
            names.join(", "),
            labels.join(", ")
        );
        (self.reordered(&order), Some(note))
    }

    fn reordered(&self, order: &[usize]) -> Weights {
        let mut tensors = self.tensors.clone();
        for name in [self.last.to_owned(), self.last.replace("weight", "bias")] {
            let Some((shape, values)) = self.tensors.find(&name) else { continue };
            let width = values.len() / order.len();
            let rows = order.iter().flat_map(|from| &values[from * width..][..width]).copied().collect();
            let shape = shape.to_vec();
            tensors.insert(name, shape, rows);
        }
        tensors
    }
}

/// Tensors of a head that are missing, misshapen, of a type that is not read or no numbers, where there are any; `d` is the width of what
/// it reads.
fn broken(weights: &Weights, names: &[&str], last: &str, d: usize) -> Option<String> {
    if names.iter().all(|name| weights.shape(name).is_none()) {
        return None;
    }
    let outputs = weights.shape(last).and_then(|shape| shape.first().copied());
    let map = |name: &str| name.rsplit_once('.').map(|(map, _)| map.to_owned());
    let problem = |name: &&str| {
        let rows = if map(name) == map(last) { outputs.unwrap_or(1) } else { d };
        let shape = if name.ends_with("weight") { vec![rows, d] } else { vec![rows] };
        // Without the last map's weight nothing tells how many outputs there are.
        match weights.shape(name) {
            None => Some(format!("`{name}` is missing")),
            Some(_) if outputs.is_none() && map(name) == map(last) && *name != last => None,
            Some(_) => weights.problem(&Wanted { name: (*name).to_owned(), shape, start: Start::Zeros }, "must be"),
        }
    };
    let wrong: Vec<String> = names.iter().filter_map(problem).collect();
    (!wrong.is_empty()).then(|| wrong.join(", "))
}
