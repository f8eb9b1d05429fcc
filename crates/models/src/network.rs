//! One backbone with the adapters and heads of every stack of a cohort.

use std::collections::BTreeMap;

use burn::tensor::{Int, Tensor};
use kernels::ops::snapshot;
use variants::{
    adapted::AdaptedLinear,
    base_update::Change,
    error::AttachError,
    host::{cast, inner},
    pass::{Active, GateKey, Pass, split},
    penalty::{AnyPenalty, Penalised},
    role::{Param, Role, join},
    slot::{Slot, StackPlan, attach},
    spec::Variant,
};

use crate::{
    backbone::Backbone,
    head::{Head, MaskedLm},
    tokens::Tokens,
};

/// A tensor of a stack with its full name.
#[derive(Debug)]
pub struct NamedParam<'a> {
    /// The slot it sits on, or the owner of a tensor that several slots refer to; empty for the head.
    pub slot: String,
    /// `<slot>.<tensor>`, unique within a stack; the head's have no slot before them.
    pub name: String,
    /// The tensor and its role.
    pub param: Param<'a>,
}

impl<'a> NamedParam<'a> {
    /// A tensor that the map called `slot` has, or owns together with others.
    fn on_slot((slot, param): (String, Param<'a>)) -> Self {
        let slot = param.owner.as_deref().map_or(slot, str::to_owned);
        Self { name: format!("{slot}.{}", param.name), slot, param }
    }
}

/// A backbone, its stacks and their heads.
#[derive(Clone, Debug)]
pub struct Network {
    /// The backbone.
    pub backbone: Backbone,
    heads: Vec<Head>,
    variants: Vec<Variant>,
}

impl Network {
    /// A backbone without stacks.
    pub fn new(backbone: Backbone) -> Self {
        Self { backbone, heads: Vec::new(), variants: Vec::new() }
    }

    /// Puts a stack and its head on.
    pub fn attach(&mut self, plan: &StackPlan, head: Head) -> Result<(), AttachError> {
        let place = self.backbone.place().clone();
        attach(&mut self.backbone.slots(), plan, &place)?;
        self.heads.push(head);
        self.variants.push(plan.variant.clone());
        Ok(())
    }

    /// Stacks on the backbone.
    pub fn stacks(&self) -> usize {
        self.heads.len()
    }

    /// The composition of a stack.
    pub fn variant(&self, stack: usize) -> &Variant {
        &self.variants[stack]
    }

    /// The tensors of a stack: adapters and copies in the order of the forward pass, then the head.
    pub fn parameters(&mut self, stack: usize) -> Vec<NamedParam<'_>> {
        let mut on_slots = Vec::new();
        for slot in self.backbone.slots() {
            let name = slot.name().to_owned();
            on_slots.extend(slot.into_parameters(stack).into_iter().map(|param| (name.clone(), param)));
        }
        let mut all: Vec<NamedParam<'_>> = join(on_slots).into_iter().map(NamedParam::on_slot).collect();
        all.extend(self.heads[stack].parameters().into_iter().map(|param| NamedParam {
            name: param.name.to_owned(),
            slot: String::new(),
            param,
        }));
        all
    }

    /// The same tensors in the same order, without their full names: a step asks for them several times.
    pub fn tensors(&mut self, stack: usize) -> Vec<Param<'_>> {
        let all = self.backbone.slots().into_iter().flat_map(|slot| slot.into_parameters(stack));
        let mut all: Vec<Param<'_>> = join(all.map(|param| ((), param))).into_iter().map(|((), param)| param).collect();
        all.extend(self.heads[stack].parameters());
        all
    }

    /// What the gradient of `B` is multiplied by from the left, `[runs, rank, rank]`, by map.
    pub fn preconditioners(&self, stack: usize) -> BTreeMap<String, Tensor<3>> {
        let of_map = |map: &AdaptedLinear| Some((map.name().to_owned(), map.preconditioner(stack)?));
        self.backbone.linears().into_iter().filter_map(of_map).collect()
    }

    /// Makes every trained tensor of every stack a leaf of the next graph, and no other.
    pub fn track(&mut self) {
        for stack in 0..self.stacks() {
            let plan = self.variants[stack].spec().train.clone();
            for mut param in self.tensors(stack) {
                let value = inner(&param.tensor);
                param.tensor.set(if plan.trains(param.role) { value.autodiff().require_grad() } else { value });
            }
        }
    }

    /// A copy without autodiff, for evaluation.
    pub fn frozen(&self) -> Self {
        let mut copy = self.clone();
        for stack in 0..copy.stacks() {
            for mut param in copy.tensors(stack) {
                param.tensor.set(inner(&param.tensor));
            }
        }
        copy
    }

    /// Trained parameters of one run of a stack: `(without head, head)`.
    pub fn trained_parameters(&mut self, stack: usize) -> (usize, usize) {
        let plan = self.variants[stack].spec().train.clone();
        let mut counts = (0, 0);
        for param in self.tensors(stack) {
            let [_, rows, cols] = param.tensor.dims();
            if param.role == Role::Head {
                counts.1 += rows * cols;
            } else if plan.trains(param.role) {
                counts.0 += rows * cols;
            }
        }
        counts
    }

    /// One stack alone, without autodiff, for evaluation.
    pub fn only(&self, stack: usize) -> Self {
        let mut copy = self.frozen();
        copy.backbone.slots().iter_mut().for_each(|slot| slot.keep_only(stack));
        copy.heads = vec![copy.heads.swap_remove(stack)];
        copy.variants = vec![copy.variants.swap_remove(stack)];
        copy
    }

    /// One run of one stack alone, with the first `outputs` outputs of its head, without autodiff. Its tensors are copies: later steps do
    /// not reach them.
    pub fn single_run(&self, stack: usize, run: usize, outputs: usize) -> Self {
        let mut copy = self.only(stack);
        copy.backbone.slots().iter_mut().for_each(|slot| slot.keep_run(run));
        for NamedParam { mut param, .. } in copy.parameters(0) {
            param.tensor.set(snapshot(param.tensor.clone().slice([run..run + 1])));
        }
        copy.heads[0].keep_outputs(outputs);
        copy
    }

    /// The same with the head of another network's first stack in the place of its first stack's.
    #[must_use]
    pub fn with_head_of(&self, other: &Self) -> Self {
        let mut copy = self.clone();
        copy.heads[0] = other.heads[0].clone();
        copy
    }

    /// A network without adapters whose base is one run's merged model, with the run's head.
    pub fn merged(&self, stack: usize, run: usize, active: &Active, bare: &StackPlan) -> Result<Self, AttachError> {
        let mut copy = self.frozen();
        copy.backbone.merge(stack, run, active);
        let mut head = copy.heads.swap_remove(stack);
        for mut param in head.parameters() {
            param.tensor.set(param.tensor.clone().slice([run..run + 1]));
        }
        let mut merged = Self::new(copy.backbone);
        merged.attach(bare, head)?;
        Ok(merged)
    }

    /// Replaces a stack's additive updates by their best approximations at `rank`.
    pub fn compress(&mut self, stack: usize, rank: usize) {
        self.backbone.slots().iter_mut().for_each(|slot| slot.compress(stack, rank));
    }

    /// Stores a stack's deltas into what its runs have accumulated beside the base, as the change of each says.
    pub fn accumulate(&mut self, stack: usize, changes: &[Change]) {
        for slot in self.backbone.slots() {
            if let Slot::Linear(map) = slot {
                map.accumulate(stack, changes);
            }
        }
    }

    /// What the deltas of a run of a stack begin anew at, map by map: slot, name and numbers `[1, rows, cols]` of every tensor, drawn for this
    /// `round`.
    pub fn drawn_anew(
        &self,
        stack: usize,
        plan: &StackPlan,
        run: usize,
        round: u64,
    ) -> Vec<(String, &'static str, Tensor<3>)> {
        let place = self.backbone.place();
        let of_map = |map: &AdaptedLinear| {
            let drawn = map.drawn_anew(plan, run, round, place).into_iter();
            drawn.map(|(name, value)| (map.name().to_owned(), name, value)).collect::<Vec<_>>()
        };
        self.adapted(stack).into_iter().flat_map(of_map).collect()
    }

    /// Adapted linear maps of a stack.
    pub fn adapted(&self, stack: usize) -> Vec<&AdaptedLinear> {
        self.backbone.linears().into_iter().filter(|map| map.is_adapted(stack)).collect()
    }

    /// One hash over the frozen tensors that a stack's adapters draw from a seed and do not save.
    pub fn checksum(&self, stack: usize) -> Option<String> {
        let maps = self.backbone.linears();
        let found: Vec<String> =
            maps.into_iter().filter_map(|map| Some(format!("{} {}", map.name(), map.checksum(stack)?))).collect();
        (!found.is_empty()).then(|| found.join("\n"))
    }

    /// What every component of a stack's deltas contributes to the size of its map's, `[runs, rank]` by map.
    pub fn contributions(&self, stack: usize) -> BTreeMap<String, Tensor<2>> {
        let of = |map: &AdaptedLinear| Some((map.name().to_owned(), map.contributions(stack)?));
        self.backbone.linears().into_iter().filter_map(of).collect()
    }

    /// A penalty over all maps of a stack, per run, `[runs]`.
    pub fn penalty(&self, stack: usize, penalty: AnyPenalty) -> Option<Tensor<1>> {
        let maps: Vec<Penalised<'_>> =
            self.backbone.linears().into_iter().filter_map(|map| map.penalised(stack)).collect();
        penalty.of(&maps)
    }

    /// Whether training batches may be packed, with rows of up to `longest` tokens: see [`Layout::packed`].
    ///
    /// [`Layout::packed`]: crate::tokens::Layout::packed
    pub fn supports_packing(&self, longest: usize) -> bool {
        self.backbone.supports_packing(longest) && self.backbone.linears().into_iter().all(|map| !map.drops())
    }

    /// What the gates of a stack's pass hold with `active` components, `[runs, rank]` row-major each, by what they depend on.
    pub fn gates(&mut self, stack: usize, active: &Active) -> BTreeMap<GateKey, Vec<f64>> {
        self.backbone.slots().into_iter().filter_map(|slot| slot.gate(stack, active)).collect()
    }

    /// Logits of every stack, `[runs, rows per run, outputs]`, from one vector per row.
    pub fn classify(&self, tokens: &Tokens, pass: &Pass) -> Vec<Tensor<3>> {
        let pooled = self.backbone.pooled(tokens, pass); // [rows, 1, d]
        split(&pooled, pass)
            .into_iter()
            .zip(&self.heads)
            .zip(&pass.stacks)
            .map(|((x, head), here)| match head {
                Head::Classifier(head) => head.forward(&x, here),
                Head::MaskedLm(_) | Head::Causal => unreachable!("a language-modelling stack was asked to classify"),
            })
            .collect()
    }

    /// Logits of the token after each of the positions chosen, one `[runs, n, vocabulary]` per stack, from the backbone's hidden states
    /// `[rows, seq, d]`; `positions` has the flat indices of every stack within its own rows, `[runs · n]`, run by run.
    pub fn continue_at(&self, hidden: &Tensor<3>, positions: &[Tensor<1, Int>], pass: &Pass) -> Vec<Tensor<3>> {
        let of_stack = |(stack, (x, positions)): (usize, (Tensor<3>, &Tensor<1, Int>))| {
            let [runs, all, d] = x.dims();
            let [chosen] = positions.dims();
            let x = x.reshape([runs * all, d]).select(0, positions.clone()).reshape([runs, chosen / runs, d]);
            let table = cast(&self.backbone.output(stack), x.dtype());
            let logits = x.matmul(table.swap_dims(1, 2)); // [runs, n, vocabulary]
            cast(&logits, self.backbone.place().dtype)
        };
        split(hidden, pass).into_iter().zip(positions).enumerate().map(of_stack).collect()
    }

    /// Logits of the masked tokens at `positions` of the first stack, `[runs, n, vocabulary]`, by a head that is not the stack's own, and the
    /// stack's word embeddings. `positions` are flat within the stack's rows of `hidden` `[rows, seq, d]`, `[runs · n]`, run by run.
    pub fn fill_at(&self, head: &MaskedLm, hidden: &Tensor<3>, positions: Tensor<1, Int>, runs: usize) -> Tensor<3> {
        let [rows, seq, d] = hidden.dims();
        let [chosen] = positions.dims();
        let x = hidden.clone().reshape([rows * seq, d]).select(0, positions).reshape([runs, chosen / runs, d]);
        head.forward(&x, &self.backbone.word().table(0))
    }

    /// Logits of the masked tokens of a cohort of one run, `[1, n, vocabulary]`; `positions` are flat.
    pub fn fill_masks(&self, tokens: &Tokens, positions: Tensor<1, Int>, pass: &Pass) -> Tensor<3> {
        let hidden = self.backbone.forward(tokens, pass);
        let [rows, seq, d] = hidden.dims();
        let x = hidden.reshape([rows * seq, d]).select(0, positions).unsqueeze::<3>(); // [1, n, d]
        match &self.heads[0] {
            Head::MaskedLm(head) => head.forward(&x, &self.backbone.word().table(0)),
            Head::Classifier(_) | Head::Causal => unreachable!("a stack with another head was asked to fill masks"),
        }
    }
}
