//! Runs that train side by side over one frozen base, and one optimizer step of all of them.
//!
//! A step has two halves. The host decides ([`Ledger`]): batches, ranks, rates, dropout keys, what is pruned. The device computes, from
//! these numbers and the cohort's state alone, and hands back losses and norms, which the host reads when it needs them and no sooner.
//! Where the device can record ([`kernels::graph`]), a step of a known shape is recorded once and replayed with other numbers.

use std::collections::{BTreeMap, HashMap};

use burn::tensor::{Gradients, Tensor};
use kernels::{graph::Graph, memory, ops};
use models::{
    network::{NamedParam, Network},
    tokens::Tokens,
};
use record::{MemoryUse, StepEntry};
use variants::{
    host::{Placement, cast, inner, values},
    pass::{Active, DropoutClock, GateKey, Pass, StackPass},
    rank::{Action, RankPolicy},
    role::Role,
    slot::StackPlan,
    spec::Variant,
    stream::{self, Stream},
};

use crate::{
    importance::Importance,
    ledger::{Entries, Ledger, Span},
    lesson::{Lesson, Sheet, SheetPlan},
    optimizer::{Adam, Part, RunStep, StackOptimizer, squared_norm},
    study::run_state::{RunAt, RunState},
};

/// Runs that share a composition, and what trains them.
#[derive(Debug)]
pub struct Stack {
    /// Its runs, in the order of their rows.
    pub runs: Vec<RunState>,
    /// Composition, seeds and targets.
    pub plan: StackPlan,
    /// Trained tensors and moments.
    pub optimizer: StackOptimizer,
    /// Importance averages, where the rank policy keeps them.
    pub importance: Importance,
    /// 1 where a diagonal's number is pruned, `[runs, n]`, once anything is.
    pub pruned: Option<Tensor<2>>,
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
    /// Steps whose numbers the host has not read.
    pending: Vec<Pending>,
    /// Recorded steps, by what they compute.
    recorded: HashMap<StepPlan, Recording>,
    /// Why a step could not be recorded, if one could not.
    pub refused: Option<String>,
    /// What it took of its device's memory, once that is known.
    pub memory: Option<MemoryUse>,
    /// Whether the backward pass computes layers again instead of keeping what it needs of all of them.
    pub recomputes: bool,
}

/// A step as a device replays it.
#[derive(Debug)]
enum Recording {
    /// Run once, step by step: kernels are chosen and compiled.
    Seen,
    /// Recorded, with its places for numbers and its results.
    Ready(Box<Graph>, Entries, Tensor<1>),
    /// Not to be had; run step by step.
    Refused,
}

/// A step that is done or under way on the device.
#[derive(Debug)]
struct Pending {
    step: u64,
    /// Loss, penalty and squared norm of every run, see [`Cohort::compute`].
    results: Tensor<1>,
    /// One per stack and run.
    facts: Vec<Vec<RunFacts>>,
}

/// What the host knows of a run's part in a step.
#[derive(Clone, Copy, Debug)]
struct RunFacts {
    rate: f64,
    tokens: u64,
    active: bool,
    /// Components that it has left, where a policy prunes.
    components: Option<u64>,
}

/// Where a step's numbers lie. Equal plans are the same computation with other numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct StepPlan {
    micros: Vec<MicroPlan>,
    stacks: Vec<StackEntries>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct MicroPlan {
    sheet: SheetPlan,
    keys: Span,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct StackEntries {
    /// Gates of the pass, where components are drawn.
    gates: Vec<(GateKey, Span)>,
    coefficients: Span,
    limits: Span,
    running: Span,
    /// 1 for runs whose importance averages take this step in; none where no run's do.
    observing: Option<Span>,
}

/// What one step did to one run.
#[derive(Clone, Copy, Debug)]
pub struct RunReport {
    /// Which run.
    pub at: RunAt,
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
    /// A stack at its start.
    pub fn new(runs: Vec<RunState>, plan: StackPlan) -> Self {
        let (optimizer, importance) = (StackOptimizer::default(), Importance::default());
        Self { runs, plan, optimizer, importance, pruned: None }
    }

    fn variant(&self) -> &Variant {
        &self.plan.variant
    }

    /// Ranks drawn for this step, where the policy draws any.
    fn draw(&self, step: u64) -> Active {
        let spec = self.variant().spec();
        let draw = |run: &RunState| spec.rank_policy.draw(spec.rank, run.cell.plan.seeds.rank, step);
        match self.runs.iter().map(draw).collect::<Option<Vec<_>>>() {
            Some(ranks) => Active::Prefix(ranks),
            None => Active::All,
        }
    }

    /// Components of a part that a run's step may change.
    fn touched(&self, active: &Active, run: usize) -> Option<std::ops::Range<usize>> {
        let Active::Prefix(ranks) = active else { return None };
        Some(self.variant().spec().rank_policy.touched(ranks[run]))
    }

    fn steps(&self, step: u64) -> Vec<RunStep> {
        let of = |run: &RunState| {
            let train = &run.cell.plan.train;
            let multiple = train.rate(step, run.steps);
            RunStep {
                rate: train.learning_rate * multiple,
                multiple,
                head_rate: train.head_learning_rate.unwrap_or(train.learning_rate),
                decay: train.weight_decay,
                limit: train.clip,
                active: run.trains_at(step),
            }
        };
        self.runs.iter().map(of).collect()
    }

    /// What the rank policy asks of every run after this step. A run that has ended asks for nothing.
    fn actions(&self, step: u64) -> Vec<Action> {
        let spec = self.variant().spec();
        let of = |run: &RunState| {
            if run.trains_at(step) {
                spec.rank_policy.after_step(spec.rank, self.plan.targets.len(), step, run.steps)
            } else {
                Action::default()
            }
        };
        self.runs.iter().map(of).collect()
    }

    /// Components each map of a run has left: the final ranks of a pruned run.
    pub fn final_ranks(&self, run: usize) -> BTreeMap<String, usize> {
        match &self.runs[run].kept {
            Some(kept) => kept.iter().map(|(map, keep)| (map.clone(), keep.iter().filter(|k| **k).count())).collect(),
            None => self.plan.targets.iter().map(|map| (map.clone(), self.plan.rank(map))).collect(),
        }
    }

    /// What is pruned, for the runs that `due` names; a run's diagonals without an allocation stay.
    fn mask(&self, due: &[bool], place: &Placement) -> Option<Tensor<2>> {
        let diagonals: Vec<&Part> =
            self.optimizer.parts().iter().filter(|part| part.subject.role == Role::Lambda).collect();
        let of_run = |(run, due): (&RunState, &bool)| {
            let kept = run.kept.as_ref().filter(|_| *due);
            let of = |part: &&Part| {
                let map = part.name.rsplit_once('.').map_or("", |(map, _)| map);
                let keep = kept.and_then(|kept| kept.get(map));
                (0..part.len()).map(|i| f64::from(u8::from(keep.is_some_and(|keep| !keep[i])))).collect::<Vec<_>>()
            };
            diagonals.iter().flat_map(of).collect::<Vec<_>>()
        };
        let values: Vec<f64> = self.runs.iter().zip(due).flat_map(of_run).collect();
        let n = values.len() / self.runs.len();
        (n > 0).then(|| place.tensor(values, [self.runs.len(), n]))
    }
}

impl Cohort {
    /// A cohort at its start.
    pub fn new(network: Network, stacks: Vec<Stack>, accumulate: usize, adam: Adam) -> Self {
        Self {
            network,
            stacks,
            step: 0,
            accumulate,
            adam,
            pending: Vec::new(),
            recorded: HashMap::new(),
            refused: None,
            memory: None,
            recomputes: false,
        }
    }

    /// Every run, stack by stack.
    pub fn runs(&self) -> impl Iterator<Item = &RunState> {
        self.stacks.iter().flat_map(|stack| &stack.runs)
    }

    /// Every run, stack by stack, to change it.
    pub fn runs_mut(&mut self) -> impl Iterator<Item = &mut RunState> {
        self.stacks.iter_mut().flat_map(|stack| &mut stack.runs)
    }

    /// Where every run is, in the same order.
    pub fn addresses(&self) -> Vec<RunAt> {
        let of_stack = |(stack, of): (usize, &Stack)| (0..of.runs.len()).map(move |run| RunAt { stack, run });
        self.stacks.iter().enumerate().flat_map(of_stack).collect()
    }

    /// The run at an address.
    pub fn at(&self, at: RunAt) -> &RunState {
        &self.stacks[at.stack].runs[at.run]
    }

    /// The run at an address, to change it.
    pub fn at_mut(&mut self, at: RunAt) -> &mut RunState {
        &mut self.stacks[at.stack].runs[at.run]
    }

    /// Bytes of the gradients of everything that trains, side by side.
    pub fn gradient_bytes(&self) -> u64 {
        let of_stack = |stack: &Stack| stack.optimizer.parts().iter().map(Part::len).sum::<usize>() * stack.runs.len();
        (self.stacks.iter().map(of_stack).sum::<usize>() * self.place().dtype.size()) as u64
    }

    fn place(&self) -> &Placement {
        self.network.backbone.place()
    }

    /// Whether any run still trains.
    pub fn is_active(&self) -> bool {
        self.runs().any(|run| run.trains_at(self.step))
    }

    /// The longest run's length.
    pub fn total_steps(&self) -> u64 {
        self.runs().map(|run| run.steps).max().unwrap_or(0)
    }

    /// One optimizer step of every active run, and what it did.
    pub fn advance(&mut self, lesson: &dyn Lesson) -> StepReport {
        self.enqueue(lesson);
        self.flush().pop().unwrap_or_else(|| unreachable!("a step was just enqueued"))
    }

    /// One optimizer step of every active run. On a device it may still be under way on return; [`flush`](Self::flush) gives its numbers.
    pub fn enqueue(&mut self, lesson: &dyn Lesson) {
        let first = self.step * self.accumulate as u64;
        let sheets: Vec<Sheet> =
            (0..self.accumulate as u64).map(|micro| lesson.sheet(&self.network, first + micro)).collect();
        if self.stacks.iter().any(|stack| !stack.optimizer.is_laid_out()) {
            self.lay_out(lesson, sheets.clone());
        }
        let (plan, ledger, mut facts) = self.decide(sheets);
        let entries = ledger.upload(self.place());
        let results = self.run(lesson, plan, entries);
        self.prune();
        for (stack, facts) in self.stacks.iter().zip(&mut facts) {
            if stack.variant().spec().rank_policy.prunes() {
                let left = |run| stack.final_ranks(run).values().sum::<usize>() as u64;
                facts.iter_mut().enumerate().for_each(|(run, facts)| facts.components = Some(left(run)));
            }
        }
        self.pending.push(Pending { step: self.step, results, facts });
        self.step += 1;
    }

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

    /// Steps whose numbers are not read yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The host's half of a step.
    fn decide(&mut self, sheets: Vec<Sheet>) -> (StepPlan, Ledger, Vec<Vec<RunFacts>>) {
        let mut ledger = Ledger::default();
        let step = self.step;
        let active: Vec<Active> = self.stacks.iter().map(|stack| stack.draw(step)).collect();
        let mut tokens: Vec<Vec<u64>> = self.stacks.iter().map(|s| vec![0; s.runs.len()]).collect();
        let mut micros = Vec::new();
        for (micro, sheet) in sheets.into_iter().enumerate() {
            tokens.iter_mut().flatten().zip(sheet.real.iter().flatten()).for_each(|(sum, more)| *sum += more);
            let keys = self.clock(micro as u64).keys();
            micros.push(MicroPlan {
                sheet: sheet.enter(&mut ledger),
                keys: ledger.ints(keys.into_iter().map(|key| key as i64)),
            });
        }
        let mut stacks = Vec::new();
        let mut facts = Vec::new();
        for (index, active) in active.iter().enumerate() {
            let gates = match active {
                Active::All => BTreeMap::new(),
                _ => self.network.gates(index, active),
            };
            let gates = gates.into_iter().map(|(key, values)| (key, ledger.floats(values))).collect();
            let stack = &mut self.stacks[index];
            let runs = stack.steps(step);
            let observing: Vec<bool> =
                stack.actions(step).iter().zip(&runs).map(|(action, run)| action.observe && run.active).collect();
            let keeps = !stack.variant().spec().rank_policy.averages().is_empty() && observing.contains(&true);
            let ranges: Vec<_> = (0..runs.len()).map(|run| stack.touched(active, run)).collect();
            let plan = stack.variant().spec().train.clone();
            let coefficients = stack.optimizer.coefficients(&runs, &|_, run| ranges[run].clone(), &plan, self.adam);
            let one = |set: bool| f64::from(u8::from(set));
            stacks.push(StackEntries {
                gates,
                coefficients: ledger.floats(coefficients),
                limits: ledger.floats(runs.iter().map(|run| run.limit.unwrap_or(f64::INFINITY))),
                running: ledger.floats(runs.iter().map(|run| one(run.active))),
                observing: keeps.then(|| ledger.floats(observing.into_iter().map(one))),
            });
            let of_run = |(run, tokens): (&RunStep, &u64)| RunFacts {
                rate: run.rate,
                tokens: *tokens,
                active: run.active,
                components: None,
            };
            facts.push(runs.iter().zip(&tokens[index]).map(of_run).collect());
        }
        (StepPlan { micros, stacks }, ledger, facts)
    }

    fn clock(&self, micro: u64) -> DropoutClock {
        let key = |run: &RunState| stream::key(run.cell.plan.seeds.dropout, Stream::Dropout, "");
        let seeds = self.runs().map(key).collect();
        DropoutClock { seeds, step: self.step, micro }
    }

    /// The pass of a micro-batch.
    fn pass(&self, plan: &StepPlan, micro: usize, entries: &Entries) -> Pass {
        let of_stack = |(stack, here): (&Stack, &StackEntries)| {
            let runs = stack.runs.len();
            let gate = |(key, span): &(GateKey, Span)| (key.clone(), entries.floats(*span, [runs, 1, key.0]));
            StackPass { gates: here.gates.iter().map(gate).collect(), ..StackPass::evaluation(runs) }
        };
        Pass::of(self.stacks.iter().zip(&plan.stacks).map(of_stack).collect())
            .keyed(entries.ints(plan.micros[micro].keys))
    }

    /// Finds out which tensors receive gradients, by one pass whose results are thrown away, and lays them out.
    fn lay_out(&mut self, lesson: &dyn Lesson, sheets: Vec<Sheet>) {
        let place = self.place().clone();
        let (plan, ledger, _) = self.decide(sheets);
        let entries = ledger.upload(&place);
        let (gradients, ..) = self.differentiate(lesson, &plan, &entries);
        for (index, gradients) in gradients.iter().enumerate() {
            let stack = &mut self.stacks[index];
            let nested = matches!(stack.draw(self.step), Active::Prefix(_));
            let params = self.network.parameters(index);
            let reached = params.into_iter().filter(|named| gradients.contains_key(&named.name)).collect();
            stack.optimizer.lay_out(reached, nested, &place);
        }
        for index in 0..self.stacks.len() {
            self.show(index);
        }
    }

    /// Puts the optimizer's tensors into the network.
    fn show(&mut self, index: usize) {
        let optimizer = &self.stacks[index].optimizer;
        let parts: HashMap<&str, &Part> = optimizer.parts().iter().map(|part| (part.name.as_str(), part)).collect();
        for NamedParam { name, param, .. } in self.network.parameters(index) {
            if let Some(part) = parts.get(name.as_str()) {
                *param.tensor = optimizer.value(part);
            }
        }
    }

    /// The device's half of a step: the first one is run as it is, which loads and compiles what its kernels need; any other is recorded
    /// where its shape is new, and replayed.
    fn run(&mut self, lesson: &dyn Lesson, plan: StepPlan, entries: Entries) -> Tensor<1> {
        let device = self.place().device.clone();
        if !Graph::is_supported(&device) {
            return self.compute(lesson, &plan, &entries);
        }
        let (results, recording) = match self.recorded.remove(&plan) {
            None if self.recorded.is_empty() => (self.compute(lesson, &plan, &entries), Recording::Seen),
            Some(Recording::Refused) => (self.compute(lesson, &plan, &entries), Recording::Refused),
            seen @ (None | Some(Recording::Seen)) => {
                // What the step by step run left with the allocator would lie beside the recording's own memory.
                memory::release(&device);
                let others = std::mem::take(&mut self.recorded);
                let other = others.values().find_map(|recording| match recording {
                    Recording::Ready(graph, ..) => Some(graph.as_ref()),
                    Recording::Seen | Recording::Refused => None,
                });
                let recorded = Graph::record(&device, other, || self.compute(lesson, &plan, &entries));
                self.recorded = others;
                match recorded {
                    Ok((mut graph, results)) => {
                        graph.replay();
                        let copy = ops::snapshot(results.clone());
                        (copy, Recording::Ready(Box::new(graph), entries, results))
                    }
                    // Perhaps a library had to load something for a new shape: it has, when the shape comes again.
                    Err(_) if seen.is_none() => (self.compute(lesson, &plan, &entries), Recording::Seen),
                    Err(reason) => {
                        self.refused = Some(reason);
                        (self.compute(lesson, &plan, &entries), Recording::Refused)
                    }
                }
            }
            Some(Recording::Ready(mut graph, mut places, results)) => {
                places.replace(entries);
                graph.replay();
                (ops::snapshot(results.clone()), Recording::Ready(graph, places, results))
            }
        };
        self.recorded.insert(plan, recording);
        results
    }

    /// Gradients by tensor, task losses and penalties of every stack, from all micro-batches.
    #[expect(clippy::type_complexity, reason = "three lists, one entry per stack")]
    fn differentiate(
        &mut self,
        lesson: &dyn Lesson,
        plan: &StepPlan,
        entries: &Entries,
    ) -> (Vec<BTreeMap<String, Tensor<3>>>, Vec<Tensor<1>>, Vec<Option<Tensor<1>>>) {
        let stacks = self.stacks.len();
        let mut sums: Vec<BTreeMap<String, Tensor<3>>> = vec![BTreeMap::new(); stacks];
        let mut task: Vec<Option<Tensor<1>>> = vec![None; stacks];
        let mut penalty: Vec<Option<Tensor<1>>> = vec![None; stacks];
        let share = 1.0 / self.accumulate as f64;
        let dtype = self.place().dtype;
        self.network.track();
        for micro in 0..plan.micros.len() {
            let mut pass = self.pass(plan, micro, entries);
            let handout = plan.micros[micro].sheet.hand_out(entries);
            let inputs = if self.recomputes { self.inputs(&handout.tokens, &mut pass) } else { Vec::new() };
            let mut total: Option<Tensor<1>> = None;
            for (index, loss) in lesson.losses(&self.network, &handout, &pass).into_iter().enumerate() {
                let loss = cast(&loss, dtype);
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
            let mut gradients = total.backward();
            self.collect(&mut gradients, &mut sums);
            let given = pass.last_hidden.take().and_then(|given| given.grad_remove(&mut gradients));
            if let Some(gradient) = given {
                self.descend(inputs, gradient, &handout.tokens, &pass, &mut sums);
            }
            pass.audit.check().unwrap_or_else(|lost| unreachable!("{lost}"));
        }
        let task = task.into_iter().map(|task| task.unwrap_or_else(|| unreachable!("every stack has a loss")));
        (sums, task.collect(), penalty)
    }

    /// The input of every layer, not tracked; what the last one gives goes into the pass, tracked.
    fn inputs(&self, tokens: &Tokens, pass: &mut Pass) -> Vec<Tensor<3>> {
        let backbone = self.network.frozen().backbone;
        let mut x = backbone.embed(tokens, pass);
        let mut inputs = Vec::new();
        for layer in 0..backbone.depth() {
            inputs.push(x.clone());
            x = backbone.layer(layer, x, tokens, pass);
        }
        pass.last_hidden = Some(inner(&x).autodiff().require_grad());
        inputs
    }

    /// From the gradient of what the last layer gave: the gradients of everything below, a layer computed again at a time.
    fn descend(
        &mut self,
        mut inputs: Vec<Tensor<3>>,
        mut gradient: Tensor<3>,
        tokens: &Tokens,
        pass: &Pass,
        sums: &mut [BTreeMap<String, Tensor<3>>],
    ) {
        // The gradient of Σ y∘g by y is g.
        let back = |y: Tensor<3>, gradient: Tensor<3>| (y * gradient.autodiff()).sum().backward();
        while let Some(input) = inputs.pop() {
            let x = inner(&input).autodiff().require_grad();
            let y = self.network.backbone.layer(inputs.len(), x.clone(), tokens, pass);
            let mut gradients = back(y, gradient);
            self.collect(&mut gradients, sums);
            gradient =
                x.grad_remove(&mut gradients).unwrap_or_else(|| unreachable!("a layer's output depends on its input"));
        }
        let x = self.network.backbone.embed(tokens, pass);
        // Where nothing trains below the layers, nothing of it is tracked: then this has the gradient of a 0.
        let nothing = gradient.zeros_like().autodiff().require_grad();
        self.collect(&mut back(x + nothing, gradient), sums);
    }

    /// Adds this micro-batch's gradients to the sums of every stack.
    fn collect(&mut self, gradients: &mut Gradients, sums: &mut [BTreeMap<String, Tensor<3>>]) {
        for (index, sums) in sums.iter_mut().enumerate() {
            for NamedParam { name, param, .. } in self.network.parameters(index) {
                let Some(gradient) = param.tensor.grad_remove(gradients) else { continue };
                let sum = match sums.remove(&name) {
                    Some(earlier) => earlier + gradient,
                    None => gradient,
                };
                sums.insert(name, sum);
            }
        }
    }

    /// The device's half of a step, a function of the state and `entries` alone. Gives, stack by stack, the task losses, penalties and
    /// squared norms of all runs, `[3 · runs]` in one tensor.
    fn compute(&mut self, lesson: &dyn Lesson, plan: &StepPlan, entries: &Entries) -> Tensor<1> {
        let (gradients, task, penalty) = self.differentiate(lesson, plan, entries);
        let mut results = Vec::new();
        for (index, gradients) in gradients.iter().enumerate() {
            let square = self.apply(index, gradients, &task[index], &plan.stacks[index], entries);
            let penalty = penalty[index].clone().unwrap_or_else(|| square.zeros_like());
            results.extend([task[index].clone(), penalty, square]);
        }
        Tensor::cat(results, 0)
    }

    /// Clips and updates one stack; gives the squared norms of its gradients, `[runs]`.
    fn apply(
        &mut self,
        index: usize,
        gradients: &BTreeMap<String, Tensor<3>>,
        task: &Tensor<1>,
        here: &StackEntries,
        entries: &Entries,
    ) -> Tensor<1> {
        let preconditioners = self.network.preconditioners(index);
        let stack = &mut self.stacks[index];
        let runs = stack.runs.len();
        let coefficients = entries.floats(here.coefficients, [runs, here.coefficients.len() / (4 * runs), 4]);
        let mut gradient = stack.optimizer.gather(gradients);
        if !here.gates.is_empty() {
            gradient = stack.optimizer.visible(gradient, &coefficients);
        }
        let (raw, square) = (gradient.clone(), squared_norm(gradient.clone()));
        let [limits, running] = [here.limits, here.running].map(|span| entries.floats(span, [runs]));
        let clip = stack.optimizer.clip(&square, task, limits, running);
        if !preconditioners.is_empty() {
            let of = |(name, gradient): (&String, &Tensor<3>)| {
                let (map, tensor) = name.rsplit_once('.').unwrap_or(("", name));
                let left = preconditioners.get(map).filter(|_| stack.optimizer.role(name) == Some(Role::B));
                debug_assert!(left.is_none() || tensor != "a");
                (name.clone(), left.map_or_else(|| gradient.clone(), |left| left.clone().matmul(gradient.clone())))
            };
            gradient = stack.optimizer.gather(&gradients.iter().map(of).collect());
        }
        stack.optimizer.update(gradient, coefficients, clip.clone(), self.adam);
        if let Some(span) = here.observing {
            // As the released codes read it: this step's clipped gradient beside the value that it made.
            let clip = clip.reshape([runs, 1]);
            let observing = entries.floats(span, [runs, 1]).greater_elem(0.5);
            let observing = observing.bool_and(clip.clone().greater_equal_elem(0.0));
            let policy = &stack.plan.variant.spec().rank_policy;
            stack.importance.observe(policy, &stack.optimizer, raw * clip, &observing);
        }
        self.show(index);
        square
    }

    /// Allocates where it is due, which reads the importance scores, and zeroes the diagonals of pruned components.
    fn prune(&mut self) {
        for index in 0..self.stacks.len() {
            let actions = self.stacks[index].actions(self.step);
            if actions.iter().all(|action| action.allocate.is_none() && !action.hold) {
                continue;
            }
            let place = self.place().clone();
            let allocates = actions.iter().any(|action| action.allocate.is_some());
            if allocates {
                let Stack { importance, plan, optimizer, runs, .. } = &mut self.stacks[index];
                let policy = &plan.variant.spec().rank_policy;
                let scores = importance.scores(policy, optimizer);
                for (run, (state, action)) in runs.iter_mut().zip(&actions).enumerate() {
                    if let Some(budget) = action.allocate {
                        let of_run: Vec<Vec<f64>> = scores.values().map(|runs| runs[run].clone()).collect();
                        state.kept = Some(scores.keys().cloned().zip(policy.allocate(&of_run, budget)).collect());
                    }
                }
            }
            let due: Vec<bool> = actions.iter().map(|action| action.allocate.is_some() || action.hold).collect();
            let stack = &mut self.stacks[index];
            if allocates || stack.pruned.is_none() || !due.iter().all(|due| *due) {
                stack.pruned = stack.mask(&due, &place);
            }
            if let Some(pruned) = &stack.pruned {
                stack.optimizer.prune(pruned);
                self.show(index);
            }
        }
    }

    /// What a step did, from its results on the host; a run whose loss or gradient was not finite has failed.
    fn report(&mut self, pending: &Pending, results: &[f64]) -> StepReport {
        let mut reports = Vec::new();
        let mut at = 0;
        for (index, stack) in self.stacks.iter_mut().enumerate() {
            let runs = stack.runs.len();
            let [task, penalty, square] = [0, 1, 2].map(|part| &results[at + part * runs..][..runs]);
            at += 3 * runs;
            let spec = stack.plan.variant.spec().clone();
            for run in 0..runs {
                let facts = pending.facts[index][run];
                if !facts.active || stack.runs[run].failure.is_some() {
                    continue;
                }
                let norm = square[run].sqrt();
                let state = &mut stack.runs[run];
                if !(norm.is_finite() && task[run].is_finite()) {
                    state.active = false;
                    state.failure = Some((pending.step + 1, format!("loss {} with gradient norm {norm}", task[run])));
                }
                reports.push(RunReport {
                    at: RunAt { stack: index, run },
                    tokens: facts.tokens,
                    entry: StepEntry {
                        step: pending.step + 1,
                        task_loss: task[run],
                        penalty: (spec.orthogonality > 0.0).then(|| penalty[run]),
                        learning_rate: facts.rate,
                        gradient_norm: norm,
                        components: facts.components,
                    },
                });
            }
        }
        StepReport { runs: reports }
    }
}

/// Adds `share` of a tensor's values to a sum.
fn add(sum: &mut Option<Tensor<1>>, tensor: &Tensor<1>, share: f64) {
    let term = inner(tensor) * share;
    *sum = Some(match sum.take() {
        Some(sum) => sum + term,
        None => term,
    });
}
