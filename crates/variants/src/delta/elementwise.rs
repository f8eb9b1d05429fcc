//! The base, entry by entry, times a low-rank matrix: `ΔW = s·W0∘(A·B)`.
//!
//! `A: [runs, d_in, rank]` is drawn from `init`, `B: [runs, rank, d_out]` starts at zero: `rank·(d_in + d_out)` trained numbers per map, those of
//! LoRA. The product of two matrices entry by entry has a rank of up to the product of theirs, so `ΔW` is of full rank where `W0` is.
//!
//! The form is dense: `A·B` is formed once a step and run, `rank·d_in·d_out` products, and the rows pass `x·(W0 + ΔW)`.
//!
//! Huang et al., *HiRA: Parameter-Efficient Hadamard High-Rank Adaptation for Large Language Models*, ICLR 2025, Eq. 5.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Delta, DeltaRecipe, Site};
use crate::{
    capability::Capability,
    form::Form,
    host::cast,
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConfig, TunerTensor},
    role::{Param, Role},
};

/// No parameters of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

/// Two factors per run.
#[derive(Clone, Debug)]
pub struct Elementwise {
    /// `[runs, d_in, rank]`
    pub a: Tensor<3>,
    /// `[runs, rank, d_out]`
    pub b: Tensor<3>,
}

impl DeltaRecipe for Spec {
    type Delta = Elementwise;
    const PROVIDES: &'static [Capability] = &[Capability::DrawnFactors, Capability::OwnRanks];
    const LOW_RANK: bool = false;
    const ROLES: &'static [Role] = &[Role::A, Role::B];

    /// Of full rank where the base is.
    fn components(&self, _rank: usize) -> usize {
        usize::MAX
    }

    fn peft(&self) -> Option<PeftForm> {
        let fields = vec![
            ("r", Field::Rank),
            ("rank_pattern", Field::Fixed(json!({}))), // PEFT 0.21.2 reads it and gives every map `r` all the same
            ("hira_dropout", Field::Dropout),
            ("init_weights", Field::Passive(json!(true))),
        ];
        Some(PeftForm::Tuner(Tuner { peft_type: "HIRA", fields }))
    }

    fn peft_tensors(&self, _map: TunedMap<'_>) -> Vec<TunerTensor> {
        vec![TunerTensor::transposed("a", "hira_A"), TunerTensor::transposed("b", "hira_B")]
    }

    fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
        config.is("HIRA").then_some(Self {})
    }

    fn init(&self, at: &mut Site<'_>) -> Elementwise {
        let [d_in, d_out] = at.shape;
        Elementwise { a: at.drawn("a", d_in), b: at.zeros(at.rank, d_out) }
    }
}

impl Delta for Elementwise {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![Param::ranked("a", Role::A, 2, &mut self.a), Param::ranked("b", Role::B, 1, &mut self.b)]
    }

    fn form(&self, gate: &Tensor<3>, base: &Tensor<2>) -> Form {
        let product = self.a.clone().matmul(self.b.clone() * gate.clone().swap_dims(1, 2));
        Form::Dense(product * cast(base, self.a.dtype()).unsqueeze::<3>())
    }
}
