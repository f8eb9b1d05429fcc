//! Axis 1b: how `ΔW` meets `W0`.

use std::fmt::Debug;

use burn::tensor::Tensor;
use kernels::ops::{self, Dropout, SharedInputGrad};
use serde::{Deserialize, Serialize};

use crate::{
    capability::{Capability, Declaration, Requirement},
    form::{Experts, Factors, Form, Routed, weighed},
    host::{Placement, cast},
    pass::StackPass,
    role::{Param, Role},
};

/// One forward pass of one stack over one map: the terms from which a combination computes its output.
///
/// Every method that reads the input registers a consumer of it, whose contribution to the input's gradient is waited for. So the result of
/// each such call must reach the output. Rows are the stack's own, `[runs, n, ..]`.
#[derive(Debug)]
pub struct MapForward<'a> {
    /// The complete input, which other maps and stacks read as well, `[rows, seq, d_in]`.
    pub(crate) x: &'a Tensor<3>,
    /// The stack's rows of it: the first and their number.
    pub(crate) own: [usize; 2],
    pub(crate) input_grad: &'a SharedInputGrad,
    pub(crate) weight: &'a Tensor<2>,
    pub(crate) bias: Option<Tensor<1>>,
    /// `ΔW` in the precision it trains in, with the gate in it.
    form: Form,
    /// Its factors where it is low-rank.
    factors: Option<Factors>,
    pub(crate) here: &'a StackPass,
    pub(crate) dropout: Option<Dropout>,
}

impl<'a> MapForward<'a> {
    /// The pass over the rows `own` of `x`, `[first, number]`.
    pub(crate) fn new(
        (x, own, input_grad): (&'a Tensor<3>, [usize; 2], &'a SharedInputGrad),
        (weight, bias): (&'a Tensor<2>, Option<Tensor<1>>),
        form: Form,
        here: &'a StackPass,
        dropout: Option<Dropout>,
    ) -> Self {
        let factors = match &form {
            Form::LowRank(chain) => Some(chain.clone().row_factors()),
            _ => None,
        };
        Self { x, own, input_grad, weight, bias, form, factors, here, dropout }
    }

    /// `W0`, `[d_in, d_out]`, in the precision of the base.
    pub fn base(&self) -> &Tensor<2> {
        self.weight
    }

    /// The frozen bias that the output ends with, `[d_out]`; none where the map has none, or runs have their own.
    pub fn bias(&self) -> Option<Tensor<1>> {
        self.bias.clone()
    }

    /// `ΔW` with the pass's gate in it, in the precision it trains in.
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// Its factors where it is low-rank, the gate folded in.
    pub fn factors(&self) -> Option<&Factors> {
        self.factors.as_ref()
    }

    /// Whether dropout changes the adapter's input in this pass.
    pub fn is_dropped(&self) -> bool {
        self.dropout.is_some()
    }

    /// Rows `[rows, seq, d]` as `[runs, n, d]`.
    fn by_run(&self, x: Tensor<3>) -> Tensor<3> {
        let [rows, seq, d] = x.dims();
        x.reshape([self.here.runs, rows * seq / self.here.runs, d])
    }

    /// `x`, `[runs, n, d_in]`.
    pub fn input(&self) -> Tensor<3> {
        self.by_run(ops::rows(self.x.clone(), self.own, self.input_grad))
    }

    /// `x̃`, the input after dropout, `[runs, n, d_in]`.
    pub fn dropped_input(&self) -> Tensor<3> {
        self.by_run(ops::dropout(ops::rows(self.x.clone(), self.own, self.input_grad), self.dropout.clone()))
    }

    /// `x·W0 + bias`, `[rows, seq, d_out]`.
    fn product(&self, bias: Option<Tensor<1>>) -> Tensor<3> {
        ops::affine(self.x.clone(), self.own, self.weight.clone(), bias, self.input_grad)
    }

    /// `x·W0`, `[runs, n, d_out]`.
    pub fn base_product(&self) -> Tensor<3> {
        self.by_run(self.product(None))
    }

    /// `x̃·down`, `[runs, n, k]`, and `up`, both in the input's precision.
    fn hidden(&self, factors: &Factors) -> (Tensor<3>, Tensor<3>) {
        let Factors { down, up } = factors.cast(self.x.dtype());
        let hidden = if self.is_dropped() {
            self.dropped_input().matmul(down)
        } else {
            ops::low_rank_down(self.x.clone(), self.own, down, self.input_grad)
        };
        (hidden, up)
    }

    /// `x·W0` of rows that are not the map's own input, `[runs, n, d_in] -> [runs, n, d_out]`.
    fn through_base(&self, x: Tensor<3>) -> Tensor<3> {
        let ([runs, n, d_in], [_, d_out]) = (x.dims(), self.weight.dims());
        x.reshape([runs * n, d_in]).matmul(self.weight.clone()).reshape([runs, n, d_out])
    }

    /// Whether `ΔW` is formed although rows could pass without it.
    fn forms_weight(&self) -> bool {
        let [_, seq, _] = self.x.dims();
        self.form.is_better_formed(self.weight.dims(), self.own[1] * seq / self.here.runs.max(1))
    }

    /// `x̃·ΔW`, `[runs, n, d_out]`, without forming `ΔW` where it has another form.
    pub fn change(&self) -> Tensor<3> {
        let dtype = self.x.dtype();
        match (&self.form, &self.factors) {
            (form, _) if self.forms_weight() => {
                let change = form.clone().dense(self.weight);
                self.dropped_input().matmul(cast(&change, dtype))
            }
            (_, Some(factors)) => {
                let (hidden, up) = self.hidden(factors);
                hidden.matmul(up)
            }
            (Form::Input { map, gain: None, scale }, None) => {
                self.through_base(map.change(self.dropped_input()) * cast(scale, dtype))
            }
            (Form::Input { map, gain: Some(gain), scale }, None) => {
                let (x, scale) = (self.dropped_input(), cast(scale, dtype));
                let moved = scaled(self.through_base(map.apply(x.clone())), gain);
                (moved - self.through_base(x)) * scale
            }
            (Form::Output { gain }, None) => self.through_base(self.dropped_input()) * cast(gain, dtype),
            (Form::Routed(routed), None) => self.mixed(routed),
            (form, None) => {
                let change = form.clone().dense(self.weight);
                self.dropped_input().matmul(cast(&change, dtype))
            }
        }
    }

    /// `Σᵢ ωᵢ·x̃·ΔWᵢ`, `[runs, n, d_out]`; the router sees the input as it is, or what gains multiply.
    fn mixed(&self, routed: &Routed) -> Tensor<3> {
        let dtype = self.x.dtype();
        match &routed.experts {
            Experts::LowRank { down, up } => {
                let weights = cast(&routed.weights(&self.input()), dtype);
                let k = up.dims()[1] / routed.router.dims()[2];
                let (hidden, up) = self.hidden(&Factors { down: down.clone(), up: up.clone() });
                weighed(hidden, weights, k).matmul(up)
            }
            Experts::Gains(gains) => {
                let y = self.through_base(self.dropped_input());
                let weights = cast(&routed.weights(&y), dtype);
                y * weights.matmul(cast(gains, dtype))
            }
        }
    }

    /// `x·W0 + x̃·ΔW`, `[runs, n, d_out]`.
    pub fn sum(&self) -> Tensor<3> {
        self.sum_with(None)
    }

    /// `x·W0 + x̃·ΔW + bias`, `[runs, n, d_out]`.
    pub fn sum_and_bias(&self) -> Tensor<3> {
        self.sum_with(self.bias())
    }

    /// Each form by the fewest products as large as the base's: one, or two where dropout or precision keeps `ΔW` apart from `W0`.
    fn sum_with(&self, bias: Option<Tensor<1>>) -> Tensor<3> {
        let dtype = self.x.dtype();
        let y = match (&self.form, &self.factors) {
            (form, _) if self.forms_weight() && !self.is_dropped() && form.dtype() == self.weight.dtype() => {
                self.input().matmul(self.weight.clone().unsqueeze::<3>() + form.clone().dense(self.weight))
            }
            _ if self.forms_weight() => return self.by_run(self.product(bias)) + self.change(),
            (_, Some(factors)) => {
                let (hidden, up) = self.hidden(factors);
                return self.by_run(ops::add_low_rank(self.product(bias), 0, hidden, up));
            }
            (Form::Dense(change), None) if !self.is_dropped() && change.dtype() == self.weight.dtype() => {
                self.input().matmul(self.weight.clone().unsqueeze::<3>() + change.clone())
            }
            (Form::Input { map, gain: None, scale }, None) => {
                let (x, dropped) = (self.input(), self.is_dropped().then(|| self.dropped_input()));
                let dropped = dropped.unwrap_or_else(|| x.clone());
                self.through_base(x + map.change(dropped) * cast(scale, dtype))
            }
            (Form::Input { map, gain: Some(gain), scale }, None) if !self.is_dropped() => {
                let (x, scale) = (self.input(), cast(scale, dtype));
                let moved = scaled(self.through_base(map.apply(x.clone())), gain);
                moved * scale.clone() + self.through_base(x) * (-scale + 1.0)
            }
            (Form::Output { gain }, None) if !self.is_dropped() => {
                let y = self.base_product();
                y.clone() + y * cast(gain, dtype)
            }
            _ => return self.by_run(self.product(bias)) + self.change(),
        };
        match bias {
            Some(bias) => y + bias.unsqueeze::<3>(),
            None => y,
        }
    }
}

/// `y∘g` by the difference of `g` from 1, which a lower precision keeps.
fn scaled(y: Tensor<3>, gain: &Tensor<3>) -> Tensor<3> {
    let change = cast(&(gain.clone() - 1.0), y.dtype());
    y.clone() + y * change
}

/// How `ΔW` meets `W0`.
pub trait Combine: Clone + Debug + Send {
    /// The tensors this combination owns.
    fn parameters(&mut self) -> Vec<Param<'_>>;

    /// `x·W' + bias`, `[runs, n, d_out]`.
    fn forward(&self, map: &MapForward<'_>) -> Tensor<3>;

    /// `W'`, `[runs, d_in, d_out]`.
    fn weight(&self, base: &Tensor<2>, update: Form) -> Tensor<3>;

    /// The part of `W'` that meets the input as it is where dropout changes the input of the rest, `[runs or 1, d_in, d_out]`: the base
    /// unless it says otherwise.
    fn undropped(&self, base: &Tensor<2>, update: &Form) -> Tensor<3> {
        cast(base, update.dtype()).unsqueeze::<3>()
    }
}

/// As written in YAML: builds the combination on one map.
pub trait CombineRecipe {
    /// The combination this recipe builds.
    type Combine: Combine;

    /// What it offers to the other parts.
    const PROVIDES: &'static [Capability] = &[];

    /// What it needs of the other parts.
    const REQUIRES: &'static [Requirement] = &[];

    /// Whether it divides by the column norms of `W0 + ΔW` and its backward pass takes these as constants, as the law of gradients has to
    /// know. What else a backward pass would hold constant breaks that law.
    const HOLDS_NORMS: bool = false;

    /// `use_dora` of PEFT's LoRA; `None` where PEFT has no such combination. PEFT's other methods have the sum alone, `Some(false)`.
    const PEFT_USE_DORA: Option<bool> = None;

    /// Roles of the tensors that it owns.
    const ROLES: &'static [Role] = &[];

    /// Fields that a plan leaves out when it is written, because their value is what records from before the field meant.
    fn unrecorded(&self) -> &'static [&'static str] {
        &[]
    }

    /// First values; `start` is the delta at the start.
    fn init(&self, base: &Tensor<2>, start: Form, place: &Placement) -> Self::Combine;

    /// Zeros of `runs` runs in place of first values, which the caller puts in.
    fn given(&self, base: &Tensor<2>, runs: usize, place: &Placement) -> Self::Combine;
}

macro_rules! combines {
    ($($file:ident :: $Combine:ident),+ $(,)?) => {
        $(pub mod $file;)+

        /// Any combination.
        #[derive(Clone, Debug)]
        #[expect(missing_docs, reason = "each variant is documented in its own file")]
        pub enum AnyCombine { $($Combine($file::$Combine)),+ }

        /// A combination as written in YAML.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        #[expect(missing_docs, reason = "each variant is documented in its own file")]
        pub enum CombineSpec { $($Combine($file::Spec)),+ }

        impl CombineSpec {
            /// First values on one map.
            pub fn init(&self, base: &Tensor<2>, start: Form, place: &Placement) -> AnyCombine {
                match self { $(Self::$Combine(spec) => AnyCombine::$Combine(spec.init(base, start, place))),+ }
            }
            /// Zeros of `runs` runs in place of first values.
            pub fn given(&self, base: &Tensor<2>, runs: usize, place: &Placement) -> AnyCombine {
                match self { $(Self::$Combine(spec) => AnyCombine::$Combine(spec.given(base, runs, place))),+ }
            }
            /// Whether `W' - W0` is the delta itself.
            pub fn is_additive(&self) -> bool {
                self.declaration().provides.contains(&Capability::Additive)
            }
            /// What it says of itself to the other parts.
            pub fn declaration(&self) -> Declaration {
                match self { $(Self::$Combine(_) => Declaration {
                    kind: stringify!($file),
                    provides: <$file::Spec as CombineRecipe>::PROVIDES,
                    lacks: &[(Capability::Additive, "not additive")],
                    requires: <$file::Spec as CombineRecipe>::REQUIRES,
                }),+ }
            }
            /// Whether its backward pass takes the column norms of `W0 + ΔW` as constants.
            pub fn holds_norms(&self) -> bool {
                match self { $(Self::$Combine(_) => <$file::Spec as CombineRecipe>::HOLDS_NORMS),+ }
            }
            /// `use_dora` of PEFT's LoRA; `None` where PEFT has no such combination.
            pub fn peft_use_dora(&self) -> Option<bool> {
                match self { $(Self::$Combine(_) => <$file::Spec as CombineRecipe>::PEFT_USE_DORA),+ }
            }
            /// Roles of the tensors that it owns.
            pub fn roles(&self) -> &'static [Role] {
                match self { $(Self::$Combine(_) => <$file::Spec as CombineRecipe>::ROLES),+ }
            }
            /// Fields that a plan leaves out when it is written.
            pub fn unrecorded(&self) -> &'static [&'static str] {
                match self { $(Self::$Combine(spec) => spec.unrecorded()),+ }
            }
            /// The YAML name of the kind.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$Combine(_) => stringify!($file)),+ }
            }
        }

        /// Every kind at its defaults.
        pub fn defaults() -> Vec<CombineSpec> {
            vec![$(CombineSpec::$Combine($file::Spec::default())),+]
        }

        impl Combine for AnyCombine {
            fn parameters(&mut self) -> Vec<Param<'_>> {
                match self { $(Self::$Combine(combine) => combine.parameters()),+ }
            }
            fn forward(&self, map: &MapForward<'_>) -> Tensor<3> {
                match self { $(Self::$Combine(combine) => combine.forward(map)),+ }
            }
            fn weight(&self, base: &Tensor<2>, update: Form) -> Tensor<3> {
                match self { $(Self::$Combine(combine) => combine.weight(base, update)),+ }
            }
            fn undropped(&self, base: &Tensor<2>, update: &Form) -> Tensor<3> {
                match self { $(Self::$Combine(combine) => combine.undropped(base, update)),+ }
            }
        }
    };
}

// Alphabetical.
combines! {
    additive::Additive,
    weight_decomposed::WeightDecomposed,
}
