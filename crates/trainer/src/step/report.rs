//! What steps did: losses and norms, read from the device when somebody asks.

use burn::tensor::Tensor;
use record::StepEntry;
use variants::host::values;

use super::pending::{Pending, RESULTS, RunFacts};
use crate::{
    cohort::{Cohort, Stack},
    study::run_state::RunAt,
};

/// What one step did to one run.
#[derive(Clone, Copy, Debug)]
pub struct RunReport {
    /// Which run.
    pub at: RunAt,
    /// Loss, penalty, rate and norm.
    pub entry: StepEntry,
    /// Tokens that it saw, padding left out.
    pub tokens: u64,
}

/// One step of a cohort.
#[derive(Debug)]
pub struct StepReport {
    /// One per run that trained.
    pub runs: Vec<RunReport>,
}

impl Stack {
    /// What a step did to a run, given `[task loss, penalty, squared gradient norm, numbers of diagonals that are not 0]`; none where the run
    /// did not take part. A run whose loss or gradient was not finite has failed.
    fn report(
        &mut self,
        run: usize,
        step: u64,
        facts: RunFacts,
        [task_loss, penalty, square, left]: [f64; RESULTS],
    ) -> Option<(StepEntry, u64)> {
        let spec = self.variant().spec();
        let (penalised, counted) = (!spec.penalties().is_empty(), self.counts_on_device());
        let state = &mut self.runs[run];
        if !facts.active || state.failure.is_some() {
            return None;
        }
        let norm = square.sqrt();
        if !(norm.is_finite() && task_loss.is_finite()) {
            state.active = false;
            state.failure = Some((step, format!("loss {task_loss} with gradient norm {norm}")));
        }
        let entry = StepEntry {
            step,
            task_loss,
            penalty: penalised.then_some(penalty),
            learning_rate: facts.rate,
            gradient_norm: norm,
            components: if counted { Some(left as u64) } else { facts.components },
        };
        Some((entry, facts.tokens))
    }
}

impl Cohort {
    /// Reports of the steps since the last flush, in their order. Waits for the device.
    pub fn flush(&mut self) -> Vec<StepReport> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Vec::new();
        }
        let all = values(&Tensor::stack::<2>(pending.iter().map(|p| p.results.clone()).collect(), 0)); // [steps, results]
        let width = all.len() / pending.len();
        pending.iter().zip(all.chunks(width)).map(|(pending, results)| self.report(pending, results)).collect()
    }

    /// Steps whose results the host has not read yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What a step did, from its results on the host.
    fn report(&mut self, pending: &Pending, results: &[f64]) -> StepReport {
        let mut reports = Vec::new();
        let mut at = 0;
        for (index, (stack, facts)) in self.stacks.iter_mut().zip(&pending.facts).enumerate() {
            let runs = stack.runs.len();
            let of_stack = &results[at..at + RESULTS * runs];
            at += RESULTS * runs;
            for (run, facts) in facts.iter().enumerate() {
                let of_run = std::array::from_fn(|which| of_stack[which * runs + run]);
                if let Some((entry, tokens)) = stack.report(run, pending.step + 1, *facts, of_run) {
                    reports.push(RunReport { at: RunAt { stack: index, run }, tokens, entry });
                }
            }
        }
        StepReport { runs: reports }
    }
}
