//! What the optimizer knows of a trained tensor, and of a run's part in a step.

use burn::tensor::Tensor;
use models::network::NamedParam;
use variants::role::{Param, Role, RoleConfig, TrainConfig};

/// One run's part in a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunStep {
    /// Learning rate of this step, schedule included.
    pub rate: f64,
    /// The schedule's multiple, for roles with a peak rate of their own.
    pub multiple: f64,
    /// Peak rate of the head.
    pub head_rate: f64,
    /// Decoupled decay.
    pub decay: f64,
    /// Largest norm of the run's gradient.
    pub limit: Option<f64>,
    /// Whether the run still trains.
    pub active: bool,
}

/// What a trained tensor is.
#[derive(Clone, Debug)]
pub struct ParamMeta {
    /// The slot it sits on, by full name; empty for the head.
    pub slot: String,
    /// Its name within the slot.
    pub field: &'static str,
    /// What it is for.
    pub role: Role,
    /// Whether decay acts on it where its role's configuration says nothing.
    pub decays: bool,
    /// Whether decay pulls it toward its own target instead of 0.
    pub has_target: bool,
}

/// Where a trained tensor lies in the flat one.
#[derive(Clone, Debug)]
pub struct ParamSlice {
    /// Full name, under which checkpoints store its moments.
    pub name: String,
    /// What it is.
    pub meta: ParamMeta,
    /// Its place among all tensors of its stack, frozen ones included.
    pub parameter: usize,
    /// Of one run, `[rows, cols]`.
    pub shape: [usize; 2],
    /// Its first column.
    pub start: usize,
    /// Its first segment.
    pub segment: usize,
    /// The axis of its components, 1 or 2, where it has any.
    pub rank_axis: Option<usize>,
    /// The same, where every component is a segment; none makes it one segment.
    pub axis: Option<usize>,
}

impl ParamSlice {
    /// The slice of tensor number `parameter` of a stack, behind `last`. With `nested`, every component is a segment.
    pub(super) fn after(last: Option<&Self>, parameter: usize, named: &NamedParam<'_>, nested: bool) -> Self {
        let Param { name: field, role, decays, ref decay_target, rank_axis, ref tensor, .. } = named.param;
        let has_target = decay_target.is_some();
        let [_, rows, cols] = tensor.dims();
        Self {
            name: named.name.clone(),
            meta: ParamMeta { slot: named.slot.clone(), field, role, decays, has_target },
            parameter,
            shape: [rows, cols],
            start: last.map_or(0, |last| last.start + last.len()),
            segment: last.map_or(0, |last| last.segment + last.segments()),
            rank_axis,
            axis: rank_axis.filter(|_| nested),
        }
    }

    /// Numbers of one run.
    pub(crate) fn len(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Its segments.
    pub fn segments(&self) -> usize {
        self.axis.map_or(1, |axis| self.shape[axis - 1])
    }

    /// Its numbers in `flat` `[runs, n]`, as `[runs, rows, cols]`: a view where the device has views.
    pub fn of(&self, flat: &Tensor<2>) -> Tensor<3> {
        let [runs, _] = flat.dims();
        let [rows, cols] = self.shape;
        flat.clone().slice([0..runs, self.start..self.start + self.len()]).reshape([runs, rows, cols])
    }

    /// The segment of every column, within its own.
    pub(super) fn columns(&self) -> impl Iterator<Item = usize> {
        self.along(self.axis)
    }

    /// The component of every column; 0 of a tensor without any.
    pub(super) fn components(&self) -> impl Iterator<Item = usize> {
        self.along(self.rank_axis)
    }

    /// The place of every column along an axis.
    fn along(&self, axis: Option<usize>) -> impl Iterator<Item = usize> + use<> {
        let [rows, cols] = self.shape;
        (0..rows * cols).map(move |at| match axis {
            Some(1) => at / cols,
            Some(_) => at % cols,
            None => 0,
        })
    }
}

/// Learning rate and decay of a tensor in one run's step.
pub(super) fn rate_and_decay(roles: &TrainConfig, meta: &ParamMeta, run: &RunStep) -> (f64, f64) {
    let own = if meta.role == Role::Head { run.head_rate * run.multiple } else { run.rate };
    match roles.of_role(meta.role) {
        RoleConfig::Frozen => (0.0, 0.0),
        RoleConfig::Trained { lr_multiplier, learning_rate, weight_decay } => (
            learning_rate.map_or(own, |peak| peak * run.multiple) * lr_multiplier,
            weight_decay.unwrap_or(if meta.decays { run.decay } else { 0.0 }),
        ),
    }
}
