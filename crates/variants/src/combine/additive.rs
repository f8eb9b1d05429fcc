//! `W' = W0 + ΔW`; forward `x·W0 + x·ΔW`, the second term without a dense product where the delta's form has a cheaper one.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Combine, CombineRecipe, MapForward};
use crate::{
    capability::Capability,
    form::Form,
    host::{Placement, cast},
    role::Param,
};

/// No parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

/// The sum.
#[derive(Clone, Copy, Debug)]
pub struct Additive;

impl CombineRecipe for Spec {
    type Combine = Additive;
    const PROVIDES: &'static [Capability] = &[Capability::Additive];
    const PEFT_USE_DORA: Option<bool> = Some(false);

    fn init(&self, _base: &Tensor<2>, _start: Form, _place: &Placement) -> Additive {
        Additive
    }

    fn given(&self, _base: &Tensor<2>, _runs: usize, _place: &Placement) -> Additive {
        Additive
    }
}

impl Combine for Additive {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        Vec::new()
    }

    fn forward(&self, map: &MapForward<'_>) -> Tensor<3> {
        map.sum_and_bias()
    }

    fn weight(&self, base: &Tensor<2>, update: Form) -> Tensor<3> {
        cast(base, update.dtype()).unsqueeze::<3>() + update.dense(base)
    }
}
