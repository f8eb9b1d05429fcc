//! Embedding table that may be a per-run copy, have single rows that are, or be updated by a low-rank adapter.

use burn::tensor::{DType, Int, Tensor, TensorData};

use crate::{
    adapted::adapter::Adapter,
    capability::Capability,
    delta::{AnyDelta, Shared, low_rank::LowRank},
    error::AttachError,
    form::{Chain, Form},
    host::{Placement, cast},
    pass::{Active, GateKey, Pass},
    role::{Param, Role},
    slot::{FirstValues, StackPlan, copies},
    stream::{self, Stream},
};

/// What an adapter on a table needs of the composition: the lookup is `A`'s rows times `B`.
pub const REQUIRES: &[Capability] =
    &[Capability::TwoFactors, Capability::Additive, Capability::TrainedA, Capability::ConstantBase];

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
    adapter: Option<Adapter>,
    tokens: Option<TrainedRows>,
}

/// Rows of a table of which every run has its own: `E[i]` is `rows[at(i)]` for a row `i` that trains. They start at the base's.
#[derive(Clone, Debug)]
struct TrainedRows {
    /// `[runs, n, d]`
    rows: Tensor<3>,
    /// 1 for a row that trains, else 0, `[vocabulary]`.
    trains: Tensor<1, Int>,
    /// Its place among those that train, 0 for others, `[vocabulary]`.
    at: Tensor<1, Int>,
}

impl TrainedRows {
    fn new(table: &Tensor<2>, ids: &[usize], runs: usize) -> Self {
        let ([vocabulary, _], device) = (table.dims(), table.device());
        let (mut trains, mut at) = (vec![0_i64; vocabulary], vec![0_i64; vocabulary]);
        for (place, id) in ids.iter().enumerate() {
            (trains[*id], at[*id]) = (1, place as i64);
        }
        let whole = |numbers: Vec<i64>| {
            Tensor::<1, Int>::from_data(TensorData::new(numbers, [vocabulary]), (&device, DType::I64))
        };
        let chosen = Tensor::<1, Int>::from_data(
            TensorData::new(ids.iter().map(|id| *id as i64).collect::<Vec<_>>(), [ids.len()]),
            (&device, DType::I64),
        );
        Self { rows: copies(&table.clone().select(0, chosen), runs), trains: whole(trains), at: whole(at) }
    }

    /// `looked_up` `[n, d]` for the tokens `ids` `[rows, seq]`, with the rows that train in their places.
    fn replace(&self, looked_up: Tensor<2>, ids: &Tensor<2, Int>) -> Tensor<2> {
        let ([all, seq], [n, d]) = (ids.dims(), looked_up.dims());
        let flat = ids.clone().reshape([n]);
        let at = self.at.clone().select(0, flat.clone()).reshape([all, seq]);
        let own = cast(&rows(self.rows.clone(), &at), looked_up.dtype());
        let trains = self.trains.clone().select(0, flat).equal_elem(1);
        looked_up.mask_where(trains.reshape([n, 1]).expand([n, d]), own)
    }

    /// The tables `[runs, vocabulary, d]`, from the base's.
    fn tables(&self, base: &Tensor<2>) -> Tensor<3> {
        let ([runs, _, _], [vocabulary, d]) = (self.rows.dims(), base.dims());
        let own = cast(&self.rows.clone().select(1, self.at.clone()), base.dtype());
        let trains = self.trains.clone().equal_elem(1).reshape([1, vocabulary, 1]).expand([runs, vocabulary, d]);
        base.clone().unsqueeze::<3>().expand([runs, vocabulary, d]).mask_where(trains, own)
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
            if spec.lacks(REQUIRES).is_some() {
                return Err(AttachError::NotAnEmbeddingDelta { slot: self.name.clone(), delta: delta.kind() });
            }
            let [vocabulary, d] = self.weight.dims();
            let max = vocabulary.min(d);
            let rank = plan.rank(&self.name);
            if rank > max {
                let slot = self.name.clone();
                return Err(AttachError::RankTooLarge { slot, d_in: vocabulary, d_out: d, max, rank });
            }
            let b = match plan.first_values {
                FirstValues::Init => self.drawn(plan, rank, place),
                FirstValues::Given | FirstValues::Shapes => place.zeros([runs, rank, d]),
            };
            let delta = AnyDelta::LowRank(LowRank { a: place.zeros([runs, vocabulary, rank]), b });
            adapter = Some(Adapter::new(plan, &self.name, delta, &self.weight, place));
        }
        let weight = plan.trains_fully(&self.name).then(|| copies(&self.weight, runs));
        let tokens = plan.trained_rows.get(&self.name).map(|ids| TrainedRows::new(&self.weight, ids, runs));
        self.stacks.push(EmbeddingStack { weight, adapter, tokens });
        Ok(())
    }

    /// First values of `B`, `[runs, rank, d]`.
    fn drawn(&self, plan: &StackPlan, rank: usize, place: &Placement) -> Tensor<3> {
        let [_, d] = self.weight.dims();
        let values = plan.seeds().into_iter().flat_map(|seed| {
            let rng = &mut stream::generator(seed, Stream::Init, &format!("{}.b", self.name));
            stream::normal(rng, rank * d, 1.0)
        });
        place.tensor(values.collect(), [plan.runs.len(), rank, d])
    }

    pub(crate) fn parameters(&mut self, stack: usize) -> Vec<Param<'_>> {
        let stack = &mut self.stacks[stack];
        let mut params = stack.adapter.as_mut().map(Adapter::parameters).unwrap_or_default();
        for param in &mut params {
            param.role = Role::Embedding;
        }
        params.extend(stack.weight.as_mut().map(|t| Param::new("weight", Role::Weight, t)));
        let tokens = stack.tokens.as_mut();
        params.extend(tokens.map(|own| Param::new("trainable_tokens", Role::Token, &mut own.rows)));
        params
    }

    /// `[rows, seq]` ids to `[rows, seq, d]`.
    pub fn forward(&self, ids: Tensor<2, Int>, pass: &Pass) -> Tensor<3> {
        let [all, seq] = ids.dims();
        let [_, d] = self.weight.dims();
        let is_plain =
            |stack: &EmbeddingStack| stack.weight.is_none() && stack.adapter.is_none() && stack.tokens.is_none();
        if self.stacks.iter().all(is_plain) {
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
            if let Some(tokens) = &stack.tokens {
                out = tokens.replace(out, &ids);
            }
            if let Some(adapter) = &stack.adapter {
                let Form::LowRank(Chain { down, middle, up }) = adapter.form_of(here, &self.weight) else {
                    unreachable!("an adapter on a table is made of two factors")
                };
                let [_, _, rank] = down.dims();
                let hidden = rows(down, &ids).reshape([here.runs, per_run * seq, rank]) * middle;
                let change = cast(&hidden.matmul(up), out.dtype());
                out = out + change.reshape([n * seq, d]);
            }
            parts.push(out.reshape([n, seq, d]));
        }
        if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 0) }
    }

    /// What the gate of a pass holds here, `[runs, rank]` row-major, and what it depends on.
    pub fn gate(&self, stack: usize, active: &Active) -> Option<(GateKey, Vec<f64>)> {
        let adapter = self.stacks[stack].adapter.as_ref()?;
        Some((adapter.gate_key(), adapter.gate_values(active)))
    }

    /// The stacked tables of a stack, those of its rows that train in their places, or the frozen one as `[1, vocabulary, d]`; for tied
    /// output projections.
    pub fn table(&self, stack: usize) -> Tensor<3> {
        let stack = self.stacks.get(stack);
        if let Some(tokens) = stack.and_then(|stack| stack.tokens.as_ref()) {
            return tokens.tables(&self.weight);
        }
        match stack.and_then(|stack| stack.weight.clone()) {
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
        let base = match (&stack.weight, &stack.tokens) {
            (Some(weight), _) => one(weight.clone()),
            (None, Some(tokens)) => one(tokens.tables(&self.weight)),
            (None, None) => self.weight.clone(),
        };
        match &stack.adapter {
            None => cast(&base, self.weight.dtype()),
            Some(adapter) => {
                let change = one(adapter.form(active, &self.weight).dense(&self.weight));
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
        if let Some(adapter) = &mut self.stacks[stack].adapter {
            adapter.compress(rank, &self.weight);
        }
    }

    /// Leaves one run in the settings of the only stack's adapter.
    pub(crate) fn keep_run(&mut self, run: usize) {
        self.stacks.iter_mut().filter_map(|stack| stack.adapter.as_mut()).for_each(|adapter| adapter.keep_run(run));
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
