//! Runs that train side by side over one frozen base, and one optimizer step of all of them.

use std::collections::BTreeMap;

use burn::tensor::{Gradients, Tensor, TensorData};
use models::network::{Named, Network};
use record::StepEntry;
use variants::{
    host::{Place, plain, values},
    pass::{Active, DropoutClock, Pass, StackPass},
    rank::{Action, RankPolicy, budget::allocate},
    role::Role,
    sensitivity::Sensitivity,
    slot::StackPlan,
    spec::Variant,
    stream::{self, Stream},
};

use crate::{
    cell::Cell,
    lesson::Lesson,
    optimizer::{Adam, RunStep, StackOptimizer, Subject, Touched, clip_coefficient, squared_norm, visible},
};

/// One run of a cohort.
#[derive(Clone, Debug)]
pub struct Member {
    /// What it runs.
    pub cell: Cell,
    /// Its length in optimizer steps.
    pub steps: u64,
    /// Whether it still trains.
    pub active: bool,
    /// Step and reason of a failure.
    pub failure: Option<(u64, String)>,
    /// Components that the last allocation kept, by map.
    pub kept: Option<BTreeMap<String, Vec<bool>>>,
}

/// Runs that share a composition, and what trains them.
#[derive(Clone, Debug)]
pub struct Stack {
    /// Its runs, in the order of their rows.
    pub members: Vec<Member>,
    /// Composition, seeds and targets.
    pub plan: StackPlan,
    /// Moments.
    pub optimizer: StackOptimizer,
    /// Importance averages by tensor name, where the rank policy keeps them.
    pub sensitivity: BTreeMap<String, Sensitivity>,
}

/// A cohort in training.
#[derive(Debug)]
pub struct Cohort {
    /// Backbone, adapters, heads.
    pub network: Network,
    /// Its stacks.
    pub stacks: Vec<Stack>,
    /// Steps done.
    pub step: u64,
    /// Micro-batches per step.
    pub accumulate: usize,
    /// Adam's constants.
    pub adam: Adam,
}

/// What one step did to one run.
#[derive(Clone, Copy, Debug)]
pub struct RunReport {
    /// Stack and run.
    pub at: (usize, usize),
    /// Loss, penalty, rate and norm.
    pub entry: StepEntry,
    /// Real tokens that it saw.
    pub tokens: u64,
}

/// One step of a cohort.
#[derive(Debug)]
pub struct StepReport {
    /// One per run that trained.
    pub runs: Vec<RunReport>,
}

impl Stack {
    fn variant(&self) -> &Variant {
        &self.plan.variant
    }

    /// Ranks drawn for this step, where the policy draws any.
    fn draw(&self, step: u64) -> Active {
        let spec = self.variant().spec();
        let draw = |m: &Member| spec.rank_policy.draw(spec.rank, m.cell.plan.seeds.rank, step);
        match self.members.iter().map(draw).collect::<Option<Vec<_>>>() {
            Some(ranks) => Active::Prefix(ranks),
            None => Active::All,
        }
    }

    /// Components of a tensor that this step may change.
    fn touched(&self, active: &Active, rank_axis: Option<usize>) -> Option<Touched> {
        let (Active::Prefix(ranks), Some(axis)) = (active, rank_axis) else { return None };
        let policy = &self.variant().spec().rank_policy;
        Some(Touched { axis, ranges: ranks.iter().map(|b| policy.touched(*b)).collect() })
    }

    fn steps(&self, step: u64) -> Vec<RunStep> {
        let of = |member: &Member| {
            let train = &member.cell.plan.train;
            let multiple = train.rate(step, member.steps);
            RunStep {
                rate: train.learning_rate * multiple,
                multiple,
                head_rate: train.head_learning_rate.unwrap_or(train.learning_rate),
                decay: train.weight_decay,
                clip: 1.0,
                active: member.active,
            }
        };
        self.members.iter().map(of).collect()
    }

    /// Components each map of a run has left: the final ranks of a pruned run.
    pub fn final_ranks(&self, run: usize) -> BTreeMap<String, usize> {
        match &self.members[run].kept {
            Some(kept) => kept.iter().map(|(map, keep)| (map.clone(), keep.iter().filter(|k| **k).count())).collect(),
            None => self.plan.targets.iter().map(|map| (map.clone(), self.plan.rank(map))).collect(),
        }
    }
}

/// A trained tensor's gradient of one step.
struct Graded {
    gradient: Tensor<3>,
    touched: Option<Touched>,
}

impl Cohort {
    fn place(&self) -> &Place {
        self.network.backbone.place()
    }

    /// Whether any run still trains.
    pub fn is_active(&self) -> bool {
        self.stacks.iter().flat_map(|stack| &stack.members).any(|member| member.active)
    }

    /// The longest run's length.
    pub fn total_steps(&self) -> u64 {
        self.stacks.iter().flat_map(|stack| &stack.members).map(|member| member.steps).max().unwrap_or(0)
    }

    fn pass(&self, active: &[Active], micro: u64) -> Pass {
        let stack = |(stack, active): (&Stack, &Active)| StackPass {
            runs: stack.members.len(),
            active: active.clone(),
            dropout: Some(DropoutClock {
                seeds: stack
                    .members
                    .iter()
                    .map(|m| stream::key(m.cell.plan.seeds.dropout, Stream::Dropout, ""))
                    .collect(),
                step: self.step,
                micro,
            }),
        };
        Pass { stacks: self.stacks.iter().zip(active).map(stack).collect() }
    }

    /// One optimizer step of every active run.
    pub fn advance(&mut self, lesson: &dyn Lesson) -> StepReport {
        let active: Vec<Active> = self.stacks.iter().map(|stack| stack.draw(self.step)).collect();
        let mut sums: Vec<BTreeMap<String, Tensor<3>>> = vec![BTreeMap::new(); self.stacks.len()];
        let mut task: Vec<Vec<f64>> = self.stacks.iter().map(|s| vec![0.0; s.members.len()]).collect();
        let mut penalty = task.clone();
        let mut tokens: Vec<Vec<u64>> = self.stacks.iter().map(|s| vec![0; s.members.len()]).collect();
        let share = 1.0 / self.accumulate as f64;
        self.network.track();
        for micro in 0..self.accumulate as u64 {
            let pass = self.pass(&active, micro);
            let losses = lesson.losses(&self.network, self.step * self.accumulate as u64 + micro, &pass);
            tokens.iter_mut().flatten().zip(losses.tokens.iter().flatten()).for_each(|(sum, more)| *sum += more);
            let mut total: Option<Tensor<1>> = None;
            for (index, loss) in losses.stacks.into_iter().enumerate() {
                add(&mut task[index], &loss, share);
                let mut sum = loss.sum();
                let weight = self.stacks[index].variant().spec().orthogonality;
                if weight > 0.0
                    && let Some(departure) = self.network.orthogonality(index)
                {
                    let term = departure * weight;
                    add(&mut penalty[index], &term, share);
                    sum = sum + term.sum();
                }
                total = Some(total.map_or(sum.clone(), |t| t + sum));
            }
            let total = total.unwrap_or_else(|| unreachable!("a cohort has stacks")) * share;
            self.collect(&mut total.backward(), &mut sums);
        }
        let runs = (0..self.stacks.len())
            .flat_map(|index| {
                let mut reports = self.apply(index, &active[index], &sums[index], &task[index], &penalty[index]);
                for report in &mut reports {
                    report.tokens = tokens[index][report.at.1];
                }
                reports
            })
            .collect();
        self.step += 1;
        StepReport { runs }
    }

    /// Adds this micro-batch's gradients to the sums of every stack.
    fn collect(&mut self, gradients: &mut Gradients, sums: &mut [BTreeMap<String, Tensor<3>>]) {
        for (index, sums) in sums.iter_mut().enumerate() {
            for Named { name, owned, .. } in self.network.owned(index) {
                let Some(gradient) = owned.tensor.grad_remove(gradients) else { continue };
                let sum = match sums.remove(&name) {
                    Some(earlier) => earlier + gradient,
                    None => gradient,
                };
                sums.insert(name, sum);
            }
        }
    }

    /// Clips, updates and then lets the rank policy act on one stack.
    fn apply(
        &mut self,
        index: usize,
        active: &Active,
        sums: &BTreeMap<String, Tensor<3>>,
        task: &[f64],
        penalty: &[f64],
    ) -> Vec<RunReport> {
        let place = self.place().clone();
        let stack = &mut self.stacks[index];
        let mut runs = stack.steps(self.step);
        let mut graded = BTreeMap::new();
        let mut norms = vec![0.0; runs.len()];
        for Named { name, owned, .. } in self.network.owned(index) {
            let Some(gradient) = sums.get(&name) else { continue };
            let touched = stack.touched(active, owned.rank_axis);
            let gradient = visible(gradient.clone(), &runs, touched.as_ref(), &place);
            add(&mut norms, &squared_norm(&gradient), 1.0);
            graded.insert(name, Graded { gradient, touched });
        }
        let has_penalty = stack.variant().spec().orthogonality > 0.0;
        let mut reports = Vec::new();
        for (run, member) in stack.members.iter_mut().enumerate().filter(|(_, m)| m.active) {
            let norm = norms[run].sqrt();
            runs[run].clip = clip_coefficient(norm, member.cell.plan.train.clip);
            if !(norm.is_finite() && task[run].is_finite()) {
                runs[run].active = false;
                member.active = false;
                member.failure = Some((self.step + 1, format!("loss {} with gradient norm {norm}", task[run])));
            }
            reports.push(RunReport {
                at: (index, run),
                tokens: 0,
                entry: StepEntry {
                    step: self.step + 1,
                    task_loss: task[run],
                    penalty: has_penalty.then(|| penalty[run]),
                    learning_rate: runs[run].rate,
                    gradient_norm: norm,
                    components: None,
                },
            });
        }
        let actions = actions(stack, self.step);
        self.update(index, &runs, &graded, &actions);
        self.prune(index, &actions);
        let stack = &self.stacks[index];
        if stack.variant().spec().rank_policy.smoothing().is_some() {
            for report in &mut reports {
                let left: usize = stack.final_ranks(report.at.1).values().sum();
                report.entry.components = Some(left as u64);
            }
        }
        reports
    }

    fn update(&mut self, index: usize, runs: &[RunStep], graded: &BTreeMap<String, Graded>, actions: &[Action]) {
        let place = self.place().clone();
        let stack = &mut self.stacks[index];
        let spec = stack.plan.variant.spec().clone();
        let observing: Vec<bool> = actions.iter().zip(runs).map(|(action, run)| action.observe && run.active).collect();
        let clips: Vec<f64> = runs.iter().map(|run| run.clip).collect();
        let preconditioners = self.network.preconditioners(index);
        for Named { slot, name, owned } in self.network.owned(index) {
            let Some(Graded { gradient, touched }) = graded.get(&name) else { continue };
            let gradient = match preconditioners.get(&slot).filter(|_| owned.role == Role::B) {
                Some(left) => left.clone().matmul(gradient.clone()),
                None => gradient.clone(),
            };
            let new = stack.optimizer.update(
                Subject { name: &name, role: owned.role, decays: owned.decays },
                &plain(owned.tensor),
                gradient.clone(),
                touched.as_ref(),
                runs,
                &spec.train,
                self.adam,
                &place,
            );
            if let (Some(beta), Some(_), true) =
                (spec.rank_policy.smoothing(), owned.rank_axis, observing.contains(&true))
            {
                // The released codes read the clipped gradient beside the stepped value.
                let clipped = gradient * place.tensor(clips.clone(), [clips.len(), 1, 1]);
                let mask = observing.contains(&false).then(|| {
                    Tensor::from_data(TensorData::new(observing.clone(), [observing.len(), 1, 1]), &place.device)
                });
                stack.sensitivity.entry(name).or_insert_with(|| Sensitivity::new(&new)).observe(
                    new.clone(),
                    clipped,
                    beta,
                    mask.as_ref(),
                );
            }
            *owned.tensor = new;
        }
    }

    /// Allocates where it is due, and zeroes the diagonals of pruned components.
    fn prune(&mut self, index: usize, actions: &[Action]) {
        if actions.iter().all(|action| action.allocate.is_none() && !action.hold) {
            return;
        }
        let place = self.place().clone();
        let stack = &mut self.stacks[index];
        let scores = if actions.iter().any(|action| action.allocate.is_some()) {
            scores(&mut self.network, index, &stack.sensitivity)
        } else {
            BTreeMap::new()
        };
        for (run, (member, action)) in stack.members.iter_mut().zip(actions).enumerate() {
            if let Some(budget) = action.allocate {
                let of_run: Vec<Vec<f64>> = scores.values().map(|runs| runs[run].clone()).collect();
                member.kept = Some(scores.keys().cloned().zip(allocate(&of_run, budget)).collect());
            }
        }
        let due: Vec<bool> = actions.iter().map(|action| action.allocate.is_some() || action.hold).collect();
        for Named { slot, owned, .. } in self.network.owned(index) {
            if owned.role != Role::Lambda {
                continue;
            }
            let rank = owned.tensor.dims()[2];
            let pruned: Vec<bool> = stack
                .members
                .iter()
                .zip(&due)
                .flat_map(|(member, due)| {
                    let keep = member.kept.as_ref().filter(|_| *due).and_then(|kept| kept.get(&slot));
                    (0..rank).map(move |i| keep.is_some_and(|keep| !keep[i]))
                })
                .collect();
            let mask = Tensor::from_data(TensorData::new(pruned, [stack.members.len(), 1, rank]), &place.device);
            *owned.tensor = plain(owned.tensor).mask_fill(mask, 0.0);
        }
    }
}

/// What the rank policy asks of every run after this step. A run that has ended asks for nothing.
fn actions(stack: &Stack, step: u64) -> Vec<Action> {
    let spec = stack.variant().spec();
    let of = |member: &Member| {
        if member.active {
            spec.rank_policy.after_step(spec.rank, stack.plan.targets.len(), step, member.steps)
        } else {
            Action::default()
        }
    };
    stack.members.iter().map(of).collect()
}

/// Importance of every component, by map, then run.
fn scores(
    network: &mut Network,
    index: usize,
    sensitivity: &BTreeMap<String, Sensitivity>,
) -> BTreeMap<String, Vec<Vec<f64>>> {
    let mut scores: BTreeMap<String, Vec<Vec<f64>>> = BTreeMap::new();
    for Named { slot, name, owned, .. } in network.owned(index) {
        let (Some(axis), Some(averages)) = (owned.rank_axis, sensitivity.get(&name)) else { continue };
        let part = averages.scores(axis);
        let sum = scores.entry(slot).or_insert_with(|| part.iter().map(|run| vec![0.0; run.len()]).collect());
        for (sum, part) in sum.iter_mut().flatten().zip(part.into_iter().flatten()) {
            *sum += part;
        }
    }
    scores
}

/// Adds `share` of a tensor's values to `sums`.
fn add(sums: &mut [f64], tensor: &Tensor<1>, share: f64) {
    for (sum, value) in sums.iter_mut().zip(values(&plain(tensor))) {
        *sum += value * share;
    }
}
