//! A trained magnitude per output times the direction of the updated weight.
//!
//! `W' = m ∘ (W0 + ΔW) / n` with `n = ‖W0 + ΔW‖_c`, the norm of each output's column (Eq. 5). Stored
//! transposed, so `n` runs over `d_in`, and `m`, `n` are `[runs, 1, d_out]`. `m` starts as `n`, so the start
//! is the base: bit for bit where `ΔW` starts at 0, else to rounding. `n` is a constant in the backward pass (§4.3, Eq. 11).
//!
//! Forward, with `x̃` the adapter's input after dropout:
//! `y = (m/n) ∘ (x·W0 + x̃·ΔW)`, one product with the base. The named form `peft` applies dropout to the
//! base's share of the change as well, `y = x·W0 + (m/n − 1) ∘ x̃·W0 + (m/n) ∘ x̃·ΔW`, and pays a second
//! product with the base; without dropout the two agree. A bias is added afterwards and not scaled.
//!
//! **Weight decay** pulls `m` toward `‖W0‖_c` (`weight_decay_toward: start`), so that what is not trained stays at `W0`. PEFT lets AdamW pull
//! it toward 0 as any parameter (`zero`), and with `m` goes the whole of `W'`, base and all: after `T` steps without gradient
//! `W' = ∏ₜ(1 − ηₜ·λ)·W0`, 0.65 of it by the recipe of LoRA's authors for CoLA. Without decay, as DoRA's authors train, both are the same.
//!
//! The norm is taken in f32 or wider, and for a low-rank `ΔW` without a dense product, see
//! [`column_norms`](kernels::ops::column_norms). Where `n` is 0 the column is 0 and `m/n` is taken as 1; PEFT divides 0 by 0 there.
//!
//! Liu et al., *DoRA: Weight-Decomposed Low-Rank Adaptation*, ICML 2024, arXiv:2402.09353.

use burn::tensor::Tensor;
use kernels::ops;
use serde::{Deserialize, Serialize};

use super::{Combine, CombineRecipe, MapForward};
use crate::{
    capability::{Capability, Requirement},
    form::{Factors, Form},
    host::{Placement, cast, inner, wide},
    role::{DecayToward, Param, Role},
};

/// Where dropout acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropoutForm {
    /// On the adapter's input alone.
    #[default]
    Adapter,
    /// On the change of the base's share as well, as PEFT does.
    Peft,
}

/// As written in YAML.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Where dropout acts.
    #[serde(default)]
    pub dropout_form: DropoutForm,
    /// What weight decay pulls `m` toward.
    #[serde(default = "toward_start")]
    pub weight_decay_toward: DecayToward,
}

fn toward_start() -> DecayToward {
    DecayToward::Start
}

impl Default for Spec {
    fn default() -> Self {
        Self { dropout_form: DropoutForm::default(), weight_decay_toward: toward_start() }
    }
}

/// Magnitudes over directions.
#[derive(Clone, Debug)]
pub struct WeightDecomposed {
    /// `m`, trained, `[runs, 1, d_out]`.
    pub magnitude: Tensor<3>,
    /// `‖W0‖²` of each column, `[1, 1, d_out]`, cached because the base is frozen.
    base_square: Tensor<3>,
    spec: Spec,
}

fn column_square(base: &Tensor<2>) -> Tensor<3> {
    wide(base.clone()).square().sum_dim(0).unsqueeze::<3>() // [1, 1, d_out]
}

/// `n` of `W0 + ΔW`, `[runs, 1, d_out]`, from values alone.
fn norm(base: &Tensor<2>, base_square: &Tensor<3>, update: &Form) -> Tensor<3> {
    match update {
        Form::LowRank(chain) => thin_norm(base, base_square, &chain.clone().factors()),
        other => other.clone().column_squares(base).sqrt(),
    }
}

/// `n` of `W0 + down·up` without the dense product, `[runs, 1, d_out]`.
fn thin_norm(base: &Tensor<2>, base_square: &Tensor<3>, factors: &Factors) -> Tensor<3> {
    let (down, up) = (wide(inner(&factors.down)), wide(inner(&factors.up)));
    ops::column_norms(base.clone(), base_square.clone(), down, up)
}

impl WeightDecomposed {
    /// `m/n`, `[runs, 1, d_out]`; gradients reach `m` alone.
    fn ratio(&self, base: &Tensor<2>, update: &Form) -> Tensor<3> {
        self.ratio_to(norm(base, &self.base_square, update))
    }

    /// `n` in a forward pass, which has the factors of a low-rank update at hand.
    fn norm_in(&self, map: &MapForward<'_>) -> Tensor<3> {
        match map.factors() {
            Some(factors) => thin_norm(map.base(), &self.base_square, factors),
            None => norm(map.base(), &self.base_square, map.form()),
        }
    }

    /// `m/n`, `[runs, 1, d_out]`.
    fn ratio_to(&self, n: Tensor<3>) -> Tensor<3> {
        let empty = n.clone().equal_scalar(0.0);
        (self.magnitude.clone() / n.mask_fill(empty.clone(), 1.0)).mask_fill(empty, 1.0)
    }
}

impl CombineRecipe for Spec {
    type Combine = WeightDecomposed;
    const REQUIRES: &'static [Requirement] = &[Requirement {
        needs: Capability::Mergeable,
        rule: "the norms are those of the columns of one `W0 + ΔW`, but under `{kind}` every token has its own; use \
               `combine: {kind: additive}`",
    }];
    const HOLDS_NORMS: bool = true;
    const PEFT_USE_DORA: Option<bool> = Some(true);
    const ROLES: &'static [Role] = &[Role::Magnitude];

    fn unrecorded(&self) -> &'static [&'static str] {
        self.weight_decay_toward.unrecorded()
    }

    fn init(&self, base: &Tensor<2>, start: Form, _place: &Placement) -> WeightDecomposed {
        let base_square = column_square(base);
        let magnitude = norm(base, &base_square, &start);
        WeightDecomposed { magnitude, base_square, spec: *self }
    }

    fn given(&self, base: &Tensor<2>, runs: usize, place: &Placement) -> WeightDecomposed {
        let [_, d_out] = base.dims();
        WeightDecomposed { magnitude: place.zeros([runs, 1, d_out]), base_square: column_square(base), spec: *self }
    }
}

impl Combine for WeightDecomposed {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        let start = self.spec.weight_decay_toward.target(|| self.base_square.clone().sqrt());
        vec![Param::new("magnitude", Role::Magnitude, &mut self.magnitude).decaying_toward(start)]
    }

    fn forward(&self, map: &MapForward<'_>) -> Tensor<3> {
        if map.is_dropped() && self.spec.dropout_form == DropoutForm::Peft {
            let ratio = cast(&self.ratio_to(self.norm_in(map)), map.base().dtype());
            let share = map.dropped_input().matmul(map.base().clone().unsqueeze::<3>()); // [runs, n, d_out]
            let y = map.base_product() + (ratio.clone() - 1.0) * share + ratio * map.change();
            return match map.bias() {
                Some(bias) => y + bias.unsqueeze::<3>(),
                None => y,
            };
        }
        ops::scale_columns(map.sum(), self.magnitude.clone(), self.norm_in(map), map.bias())
    }

    fn weight(&self, base: &Tensor<2>, update: Form) -> Tensor<3> {
        self.ratio(base, &update) * (wide(base.clone()).unsqueeze::<3>() + update.dense(base))
    }

    fn undropped(&self, base: &Tensor<2>, update: &Form) -> Tensor<3> {
        let base_3d = wide(base.clone()).unsqueeze::<3>();
        match self.spec.dropout_form {
            DropoutForm::Adapter => self.ratio(base, update) * base_3d,
            DropoutForm::Peft => base_3d,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;
    use crate::{
        form::Chain,
        host::values,
        stream::{self, Stream},
    };

    /// `y = (m/n) ∘ (x·W0 + x̃·ΔW)`, against the norms of the dense sum; magnitudes may be negative.
    #[test]
    fn the_share_of_the_base_is_rescaled_with_the_sum_unless_peft_drops_it() {
        let place = Placement::new(&Device::flex(), DType::F64);
        let drawn = |name: &str, n: usize| stream::normal(&mut stream::generator(1, Stream::Data, name), n, 1.0);
        let base = place.tensor(drawn("base", 12), [4, 3]);
        let update = Form::LowRank(Chain {
            down: place.tensor(drawn("down", 16), [2, 4, 2]),
            middle: place.tensor(drawn("middle", 4), [2, 1, 2]),
            up: place.tensor(drawn("up", 12), [2, 2, 3]),
        });
        let of = |dropout_form| {
            let start = Form::Dense(place.zeros([2, 4, 3]));
            let mut combine = Spec { dropout_form, ..Spec::default() }.init(&base, start, &place);
            combine.magnitude = place.tensor(drawn("magnitude", 6), [2, 1, 3]);
            combine
        };
        let combine = of(DropoutForm::Adapter);
        let sum = base.clone().unsqueeze::<3>() + update.clone().dense(&base);
        let ratio = combine.magnitude.clone() / sum.square().sum_dim(1).sqrt();
        let wanted = values(&(ratio * base.clone().unsqueeze::<3>()));
        for (found, wanted) in values(&combine.undropped(&base, &update)).iter().zip(&wanted) {
            assert!((found - wanted).abs() < 1e-12, "{found} is not {wanted}");
        }
        assert_eq!(values(&of(DropoutForm::Peft).undropped(&base, &update)), values(&base));
    }
}
