//! Which examples a run has in a micro-batch. What reads them (the arrays of a batch, the inputs of a loss) is elsewhere.

use data::{batch::Encoded, task::Objective};
use models::tokens::Row;

/// One run's part of a micro-batch.
#[derive(Clone, Debug)]
pub struct RunRows<'a> {
    /// Its examples, then empty rows that fill the batch up and count for nothing.
    pub rows: Vec<Option<&'a Encoded>>,
    /// What is predicted.
    pub objective: &'a Objective,
}

impl<'a> RunRows<'a> {
    /// These examples, filled up to `rows` rows.
    pub fn new(examples: Vec<&'a Encoded>, rows: usize, objective: &'a Objective) -> Self {
        assert!(examples.len() <= rows, "{} examples do not fit into {rows} rows", examples.len());
        let mut all: Vec<Option<&Encoded>> = examples.into_iter().map(Some).collect();
        all.resize(rows, None);
        Self { rows: all, objective }
    }

    /// What each of its examples weighs in a mean over them. Row weights are f32.
    pub fn share(&self) -> f64 {
        f64::from(1.0 / self.rows.iter().flatten().count() as f32)
    }

    /// Tokens of its examples, padding left out.
    pub fn n_tokens(&self) -> u64 {
        self.rows.iter().flatten().map(|example| example.ids.len() as u64).sum()
    }

    /// What its loss is a mean over: the tokens that are learnt where text is continued, else the examples.
    pub fn n_terms(&self) -> u64 {
        let examples = self.rows.iter().flatten();
        match self.objective {
            Objective::Text => examples.map(|example| learnt(example).count() as u64).sum(),
            Objective::Classification { .. } | Objective::Regression { .. } => examples.count() as u64,
        }
    }
}

/// Places of the tokens of an example that a causal model learns. Nothing predicts the first token of a row, so it is left out.
pub(crate) fn learnt(example: &Encoded) -> impl Iterator<Item = usize> + '_ {
    (1..example.ids.len()).filter(|at| example.targets.get(*at) == Some(&true))
}

/// An example as the model sees it; none is a row that fills a batch up.
pub(crate) fn row(example: Option<&Encoded>) -> Row<'_> {
    example.map_or_else(Row::default, |example| Row { ids: &example.ids, types: &example.types })
}
