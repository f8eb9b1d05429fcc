//! Embedding table whose rows may be per-run copies, or updated by a low-rank adapter.

use burn::tensor::{Int, Tensor};

use crate::{
    compress,
    delta::{Delta, DeltaSpec, Shared, low_rank::LowRank},
    error::AttachError,
    host::{Placement, cast},
    pass::{Active, GateKey, Pass, StackPass, gate, gate_values},
    role::{Param, Role},
    scaling::Scaling,
    slot::{StackPlan, copies},
    stream::{self, Stream},
};

/// `y = E[ids]`, plus `s·A[ids]·B` where adapted.
///
/// The first values of an embedding's adapter are those of loralib: `A` zero, `B ~ N(0, 1)`.
#[derive(Clone, Debug)]
pub struct AdaptedEmbedding {
    name: String,
    /// `[vocabulary, d]`
    weight: Tensor<2>,
    stacks: Vec<EmbeddingStack>,
}

#[derive(Clone, Debug)]
struct EmbeddingStack {
    /// A run's own table, `[runs, vocabulary, d]`.
    weight: Option<Tensor<3>>,
    adapter: Option<Lookup>,
}

#[derive(Clone, Debug)]
struct Lookup {
    delta: LowRank,
    scaling: Scaling,
    alphas: Vec<f64>,
    /// The gate with every component active, `[runs, 1, rank]`: made once, because a recorded step uploads nothing.
    full_gate: Tensor<3>,
    place: Placement,
}

impl Lookup {
    /// The gate of a pass, `[runs, 1, rank]`.
    fn gate(&self, active: &Active) -> Tensor<3> {
        let [runs, _, rank] = self.delta.a.dims();
        match active {
            Active::All => self.full_gate.clone(),
            _ => self.place.tensor(self.gate_values(active), [runs, 1, rank]),
        }
    }

    /// The gate of a pass, which may be on the device already.
    fn gate_of(&self, pass: &StackPass) -> Tensor<3> {
        pass.gates.get(&self.gate_key()).cloned().unwrap_or_else(|| self.gate(&pass.active))
    }

    fn gate_key(&self) -> GateKey {
        (self.delta.a.dims()[2], self.alphas.iter().map(|alpha| alpha.to_bits()).collect())
    }

    fn gate_values(&self, active: &Active) -> Vec<f64> {
        let [runs, _, rank] = self.delta.a.dims();
        gate_values(active, rank, &|run, b| self.scaling.at(self.alphas[run], b), runs)
    }
}

/// Rows `ids + run·vocabulary` of a stacked table, `[runs · n, width]`.
fn rows(table: Tensor<3>, ids: &Tensor<2, Int>) -> Tensor<2> {
    let [runs, vocabulary, width] = table.dims();
    let [all, seq] = ids.dims();
    let start = Tensor::arange(0..runs as i64, &ids.device()).cast(ids.dtype());
    let offsets: Tensor<1, Int> = start * vocabulary as i64;
    let shifted = ids.clone().reshape([runs, all / runs * seq]) + offsets.reshape([runs, 1]);
    table.reshape([runs * vocabulary, width]).select(0, shifted.reshape([all * seq]))
}

impl AdaptedEmbedding {
    /// A frozen table.
    pub fn new(name: impl Into<String>, weight: Tensor<2>) -> Self {
        Self { name: name.into(), weight, stacks: Vec::new() }
    }

    /// Full name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn attach(
        &mut self,
        plan: &StackPlan,
        place: &Placement,
        _shared: &mut Shared,
    ) -> Result<(), AttachError> {
        let spec = plan.variant.spec();
        let runs = plan.runs.len();
        let mut adapter = None;
        if let Some(delta) = spec.delta.as_ref().filter(|_| plan.targets.contains(&self.name)) {
            if !matches!(delta, DeltaSpec::LowRank(_)) || !spec.combine.is_additive() || !spec.train.trains(Role::A) {
                return Err(AttachError::NotAnEmbeddingDelta { slot: self.name.clone(), delta: delta.kind() });
            }
            let [vocabulary, d] = self.weight.dims();
            let max = vocabulary.min(d);
            let rank = plan.rank(&self.name);
            if rank > max {
                let slot = self.name.clone();
                return Err(AttachError::RankTooLarge { slot, d_in: vocabulary, d_out: d, max, rank });
            }
            let values = plan.seeds().into_iter().flat_map(|seed| {
                let rng = &mut stream::generator(seed, Stream::Init, &format!("{}.b", self.name));
                stream::normal(rng, rank * d, 1.0)
            });
            let alphas = plan.alphas(&self.name);
            adapter = Some(Lookup {
                full_gate: gate(&Active::All, rank, &|run, b| spec.scaling.at(alphas[run], b), runs, place),
                delta: LowRank {
                    a: place.zeros([runs, vocabulary, rank]),
                    b: place.tensor(values.collect(), [runs, rank, d]),
                },
                scaling: spec.scaling,
                alphas,
                place: place.clone(),
            });
        }
        let weight = plan.trains_fully(&self.name).then(|| copies(&self.weight, runs));
        self.stacks.push(EmbeddingStack { weight, adapter });
        Ok(())
    }

    pub(crate) fn parameters(&mut self, stack: usize) -> Vec<Param<'_>> {
        let stack = &mut self.stacks[stack];
        let mut params = Vec::new();
        if let Some(Lookup { delta, .. }) = &mut stack.adapter {
            params.push(Param::ranked("a", Role::Embedding, 2, &mut delta.a));
            params.push(Param::ranked("b", Role::Embedding, 1, &mut delta.b));
        }
        params.extend(stack.weight.as_mut().map(|t| Param::new("weight", Role::Weight, t)));
        params
    }

    /// `[rows, seq]` ids to `[rows, seq, d]`.
    pub fn forward(&self, ids: Tensor<2, Int>, pass: &Pass) -> Tensor<3> {
        let [all, seq] = ids.dims();
        let [_, d] = self.weight.dims();
        if self.stacks.iter().all(|stack| stack.weight.is_none() && stack.adapter.is_none()) {
            return self.weight.clone().select(0, ids.reshape([all * seq])).reshape([all, seq, d]);
        }
        let per_run = all / pass.runs();
        let mut start = 0;
        let mut parts = Vec::new();
        for (stack, here) in self.stacks.iter().zip(&pass.stacks) {
            let ids = ids.clone().slice([start..start + here.runs * per_run]);
            let n = here.runs * per_run;
            start += n;
            let mut out = match &stack.weight {
                Some(table) => cast(&rows(table.clone(), &ids), self.weight.dtype()),
                None => self.weight.clone().select(0, ids.clone().reshape([n * seq])),
            }; // [n · seq, d]
            if let Some(lookup) = &stack.adapter {
                let LowRank { a, b } = &lookup.delta;
                let rank = a.dims()[2];
                let hidden = rows(a.clone(), &ids).reshape([here.runs, per_run * seq, rank]) * lookup.gate_of(here);
                let change = cast(&hidden.matmul(b.clone()), out.dtype());
                out = out + change.reshape([n * seq, d]);
            }
            parts.push(out.reshape([n, seq, d]));
        }
        if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 0) }
    }

    /// What the gate of a pass holds here, `[runs, rank]` row-major, and what it depends on.
    pub fn gate(&self, stack: usize, active: &Active) -> Option<(GateKey, Vec<f64>)> {
        let lookup = self.stacks[stack].adapter.as_ref()?;
        Some((lookup.gate_key(), lookup.gate_values(active)))
    }

    /// The stacked tables of a stack, or the frozen one as `[1, vocabulary, d]`; for tied output projections.
    pub fn table(&self, stack: usize) -> Tensor<3> {
        match self.stacks.get(stack).and_then(|stack| stack.weight.clone()) {
            Some(weight) => weight,
            None => self.weight.clone().unsqueeze::<3>(),
        }
    }

    /// The table of one run with `active` components, `[vocabulary, d]`.
    pub fn merged(&self, stack: usize, run: usize, active: &Active) -> Tensor<2> {
        let one = |t: Tensor<3>| {
            let [_, rows, cols] = t.dims();
            t.slice([run..run + 1]).reshape([rows, cols])
        };
        let stack = &self.stacks[stack];
        let base = stack.weight.clone().map_or_else(|| self.weight.clone(), one);
        match &stack.adapter {
            None => cast(&base, self.weight.dtype()),
            Some(lookup) => {
                let change = one(lookup.delta.factors(&lookup.gate(active)).product());
                cast(&(cast(&base, change.dtype()) + change), self.weight.dtype())
            }
        }
    }

    /// A frozen table with one run's update folded in and no stacks.
    pub fn merge(&self, stack: usize, run: usize, active: &Active) -> Self {
        Self { weight: self.merged(stack, run, active), stacks: Vec::new(), ..self.clone() }
    }

    /// Replaces a stack's update by its best approximation at `rank`, or at the table's own where that is smaller.
    pub fn compress(&mut self, stack: usize, rank: usize) {
        let Some(lookup) = &mut self.stacks[stack].adapter else { return };
        let rank = rank.min(lookup.delta.a.dims()[2]);
        let factors = lookup.delta.factors(&lookup.gate(&Active::All));
        lookup.delta = compress::best_approximation(&factors, rank, &lookup.place);
        lookup.scaling = Scaling::Constant { value: 1.0 };
        let [runs, ..] = lookup.delta.a.dims();
        lookup.full_gate = lookup.place.zeros([runs, 1, rank]) + 1.0;
    }

    /// The same table with one of its stacks alone.
    pub fn only(&self, stack: usize) -> Self {
        Self { stacks: vec![self.stacks[stack].clone()], ..self.clone() }
    }

    /// The base's table.
    pub fn base(&self) -> Tensor<2> {
        self.weight.clone()
    }

    /// Takes all stacks off; the base is as it was.
    pub fn detach(&mut self) {
        self.stacks.clear();
    }
}
