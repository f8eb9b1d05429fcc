//! An adapter on one map: a delta, its scale, its gate and how it meets the base.

use std::sync::OnceLock;

use burn::tensor::Tensor;

use crate::{
    base_update::{Accumulated, Change},
    combine::{AnyCombine, Combine},
    compress,
    delta::{AnyDelta, Delta, DeltaSpec},
    form::{self, Factors, Form},
    gradient::GradientSpec,
    host::{Placement, inner},
    pass::{Active, GateKey, StackPass, gate, gate_values},
    penalty::Penalised,
    role::{Param, Role},
    scaling::Scaling,
    slot::{FirstValues, StackPlan},
};

/// A delta, its scale and how it meets the base.
#[derive(Clone, Debug)]
pub(crate) struct Adapter {
    pub(super) delta: AnyDelta,
    pub(super) combine: AnyCombine,
    /// What the runs have accumulated beside the base, where they do.
    accumulated: Option<Accumulated>,
    /// Whether `W' − W0` is the delta itself.
    additive: bool,
    /// Components of the update where it is low-rank, those accumulated beside the base with them.
    components: Option<usize>,
    scaling: Scaling,
    pub(super) rank: usize,
    pub(super) alphas: Vec<f64>,
    pub(super) dropout: f64,
    /// The gate with every component active, `[runs, 1, rank]`.
    full_gate: Tensor<3>,
    gradient: GradientSpec,
    /// Left factor of the gradient of `B`, `[runs, rank, rank]`: made at its first use, when `A` has the value it keeps. A warm start
    /// or an imported adapter replaces the `A` that was drawn.
    preconditioner: OnceLock<Option<Tensor<3>>>,
    place: Placement,
}

impl Adapter {
    /// The adapter that `plan` puts on the map called `map` with the frozen weight `base` `[d_in, d_out]`.
    pub(crate) fn new(plan: &StackPlan, map: &str, delta: AnyDelta, base: &Tensor<2>, place: &Placement) -> Self {
        let (spec, rank, alphas) = (plan.variant.spec(), plan.rank(map), plan.alphas(map));
        let width = rank.max(1); // of a method without a rank, the scale alone
        let full_gate = gate(&Active::All, width, &|run, b| spec.scaling.at(alphas[run], b), alphas.len(), place);
        #[cfg(feature = "testing")]
        if plan.first_values == FirstValues::Init {
            crate::slot::INITIALISED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        let combine = match plan.first_values {
            FirstValues::Init => spec.combine.init(base, delta.form(&full_gate, base), place),
            FirstValues::Given | FirstValues::Shapes => spec.combine.given(base, alphas.len(), place),
        };
        // Of its factors, which may have more components than the rank of `ΔW` can be.
        let own = match &spec.base_update {
            none if none.is_none() => 0,
            _ => match delta.form(&full_gate, base) {
                Form::LowRank(chain) => chain.down.dims()[2],
                _ => 0,
            },
        };
        let accumulated = Accumulated::new(&spec.base_update, own, base.dims(), alphas.len(), plan.first_values, place);
        let mut adapter = Self {
            delta,
            combine,
            accumulated,
            additive: spec.combine.is_additive(),
            components: None,
            scaling: spec.scaling,
            rank,
            alphas,
            dropout: spec.dropout,
            full_gate,
            gradient: spec.gradient,
            preconditioner: OnceLock::new(),
            place: place.clone(),
        };
        if spec.delta.as_ref().is_some_and(DeltaSpec::is_low_rank) {
            adapter.components = adapter.form(&Active::All, base).components();
        }
        adapter
    }

    /// `ΔW` with `active` components beside the frozen weight `base` `[d_in, d_out]`.
    pub(crate) fn form(&self, active: &Active, base: &Tensor<2>) -> Form {
        self.joined(self.delta.form(&self.gate(active), base))
    }

    /// `ΔW` with the gate of a pass in it.
    pub(crate) fn form_of(&self, pass: &StackPass, base: &Tensor<2>) -> Form {
        self.joined(self.delta.form(&self.gate_of(pass), base))
    }

    /// The delta and what is accumulated beside the base, as one update.
    fn joined(&self, own: Form) -> Form {
        match (own, &self.accumulated) {
            (Form::LowRank(own), Some(accumulated)) => {
                // The scale of the full rank, which every component has where anything is accumulated.
                let scale = self.full_gate.clone().slice([0..self.alphas.len(), 0..1, 0..1]);
                Form::LowRank(accumulated.join(own, scale))
            }
            (own, _) => own,
        }
    }

    /// Stores the delta into what is accumulated, as every run's change says; `base` is `W0`.
    pub(crate) fn accumulate(&mut self, changes: &[Change], base: &Tensor<2>) {
        let own = self.unscaled(base);
        if let (Some(accumulated), Some(own)) = (&mut self.accumulated, own) {
            accumulated.store(&own, changes);
        }
    }

    /// The delta at a scale of 1, without autodiff: its own factors, bit for bit, where it has two. None where it is not of low rank.
    fn unscaled(&self, base: &Tensor<2>) -> Option<Factors> {
        match self.delta.form(&(self.full_gate.zeros_like() + 1.0), base) {
            Form::LowRank(chain) => {
                let Factors { down, up } = chain.row_factors();
                Some(Factors { down: inner(&down), up: inner(&up) })
            }
            _ => None,
        }
    }

    /// The factors at a scale of 1, those accumulated first; `base` is `W0`.
    pub(super) fn kept(&self, base: &Tensor<2>) -> Option<Factors> {
        let own = self.unscaled(base)?;
        Some(match &self.accumulated {
            Some(accumulated) => accumulated.followed_by(own),
            None => own,
        })
    }

    /// What a penalty sees.
    pub(super) fn penalised(&self) -> Penalised<'_> {
        Penalised { delta: &self.delta, accumulated: self.accumulated.as_ref().map(Accumulated::down) }
    }

    /// What every component contributes to the size of the delta, `[runs, rank]`, where it has a diagonal; `base` is `W0`.
    pub(super) fn contributions(&self, base: &Tensor<2>) -> Option<Tensor<2>> {
        self.delta.diagonal()?;
        match self.delta.form(&(self.full_gate.zeros_like() + 1.0), base) {
            Form::LowRank(chain) => Some(inner(&chain.contributions())),
            _ => None,
        }
    }

    /// The whole update at a scale of 1, where anything is accumulated; `base` is `W0`.
    pub(super) fn whole(&self, base: &Tensor<2>) -> Option<Factors> {
        Some(self.accumulated.as_ref()?.whole(self.unscaled(base)?))
    }

    /// Whether a pass of `rows` rows for each run adds a low-rank update to the output of a base `[d_in, d_out]`, bias and all.
    pub(super) fn adds(&self, rows: usize, shape: [usize; 2]) -> bool {
        self.additive && self.components.is_some_and(|components| !form::is_wide(components, shape, rows))
    }

    /// `W' − W0 = down·up`, where the update is such a product.
    pub(crate) fn low_rank(&self, form: &Form) -> Option<Factors> {
        match form {
            Form::LowRank(chain) if self.additive => Some(chain.clone().factors()),
            _ => None,
        }
    }

    /// What the map's bias is multiplied by, `[runs, 1, d_out]`, where the method scales it.
    pub(crate) fn bias_gain(&self, gate: &Tensor<3>) -> Option<Tensor<3>> {
        self.delta.bias_gain(gate)
    }

    /// What the gradient of `B` is multiplied by from the left, `[runs, rank, rank]`.
    pub(super) fn preconditioner(&self) -> Option<Tensor<3>> {
        self.preconditioner.get_or_init(|| self.left_factor()).clone()
    }

    /// Leaves one run: its scale, its gate, and a left factor that is made anew from its `A`.
    pub(crate) fn keep_run(&mut self, run: usize) {
        self.alphas = vec![self.alphas[run]];
        self.full_gate = self.full_gate.clone().slice([run..run + 1]);
        self.preconditioner = OnceLock::new();
    }

    /// Replaces an additive update by its best approximation at `rank`: or at the adapter's own where that is smaller, if it is of two
    /// factors, else at what the map's widths allow.
    pub(crate) fn compress(&mut self, rank: usize, base: &Tensor<2>) {
        let form = self.form(&Active::All, base);
        let (factors, rank) = if let Some(factors) = self.low_rank(&form) {
            (factors, rank.min(self.rank))
        } else {
            let [d_in, d_out] = base.dims();
            (Factors::of_matrix(inner(&form.dense(base))), rank.min(d_in).min(d_out))
        };
        let delta = compress::best_approximation(&factors, rank, &self.place);
        self.accumulated = None;
        self.full_gate = self.place.zeros([self.alphas.len(), 1, rank]) + 1.0;
        self.scaling = Scaling::Constant { value: 1.0 };
        self.rank = rank;
        self.delta = AnyDelta::LowRank(delta);
        self.components = Some(rank);
    }

    pub(crate) fn gate(&self, active: &Active) -> Tensor<3> {
        match active {
            Active::All => self.full_gate.clone(),
            _ => self.place.tensor(self.gate_values(active), [self.alphas.len(), 1, self.rank.max(1)]),
        }
    }

    /// The gate of a pass, which may have been uploaded before.
    pub(crate) fn gate_of(&self, pass: &StackPass) -> Tensor<3> {
        pass.gates.get(&self.gate_key()).cloned().unwrap_or_else(|| self.gate(&pass.active))
    }

    pub(crate) fn gate_key(&self) -> GateKey {
        (self.rank, self.alphas.iter().map(|alpha| alpha.to_bits()).collect())
    }

    pub(crate) fn gate_values(&self, active: &Active) -> Vec<f64> {
        gate_values(active, self.rank.max(1), &|run, b| self.scaling.at(self.alphas[run], b), self.alphas.len())
    }

    fn left_factor(&self) -> Option<Tensor<3>> {
        let scales: Vec<f64> = self.alphas.iter().map(|alpha| self.scaling.at(*alpha, self.rank)).collect();
        let mut delta = self.delta.clone();
        let a = delta.parameters().into_iter().find(|param| param.role == Role::A)?;
        self.gradient.preconditioner(&a.tensor, &scales, &self.place)
    }

    pub(crate) fn parameters(&mut self) -> Vec<Param<'_>> {
        let mut params = self.delta.parameters();
        params.extend(self.combine.parameters());
        params.extend(self.accumulated.iter_mut().flat_map(Accumulated::parameters));
        params
    }
}
