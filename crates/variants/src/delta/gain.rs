//! A trained gain of a map's outputs, or of its inputs: `W' = W0·diag(g)` with the bias `bias∘g`, or `W' = diag(g)·W0`.
//!
//! A map whose full name ends in one of `feedforward` has the gain on its inputs, `g: [runs, 1, d_in]`, every other map on its outputs,
//! `g: [runs, 1, d_out]`. It starts at 1, so the start is the base bit for bit. A row costs as many multiplications as `g` has numbers. There
//! is no rank. With the scale `s` the gain is `1 + s·(g − 1)`.
//!
//! | field | default | source |
//! |---|---|---|
//! | `feedforward` | [`FEEDFORWARD`] | PEFT's `feedforward_modules` of all its architectures |
//! | `weight_decay_toward` | `start`: 1 | PEFT decays gains toward 0 (`zero`), and `W'` with them, base and all |
//!
//! As in PEFT, `output.dense` is the end of the name of BERT's second feed-forward map and of the one behind its attention: both have the gain
//! on their inputs.
//!
//! Liu et al., *Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning*, NeurIPS 2022, arXiv:2205.05638, §3.3.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Delta, DeltaRecipe, Site, block_rotation::WHOLE};
use crate::{
    capability::{Capability, Requirement},
    form::{Form, InputMap},
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConfig, TunerTensor},
    role::{DecayToward, Param, Role},
};

/// Ends of the names of maps with the gain on their inputs: PEFT's `TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING`, each once.
pub const FEEDFORWARD: [&str; 8] =
    ["output.dense", "down_proj", "mlp.c_proj", "dense_4h_to_h", "fc2", "fc_out", "wo", "w2"];

/// Which maps have the gain where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Ends of the names of maps with the gain on their inputs.
    #[serde(default = "feedforward")]
    pub feedforward: Vec<String>,
    /// What weight decay pulls the gains toward.
    #[serde(default = "toward_start")]
    pub weight_decay_toward: DecayToward,
}

fn feedforward() -> Vec<String> {
    FEEDFORWARD.map(str::to_owned).to_vec()
}

fn toward_start() -> DecayToward {
    DecayToward::Start
}

impl Default for Spec {
    fn default() -> Self {
        Self { feedforward: feedforward(), weight_decay_toward: toward_start() }
    }
}

/// One gain per run.
#[derive(Clone, Debug)]
pub struct Gain {
    /// `[runs, 1, d_in]` or `[runs, 1, d_out]`.
    pub gain: Tensor<3>,
    is_of_inputs: bool,
    weight_decay_toward: DecayToward,
}

impl Spec {
    /// Whether the map called `slot` has the gain on its inputs.
    fn is_of_inputs(&self, slot: &str) -> bool {
        let ends =
            |name: &str, end: &str| name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        // An end may be the whole name with what a model with a head has in front of it.
        self.feedforward.iter().any(|end| ends(slot, end) || ends(end, slot))
    }
}

impl DeltaRecipe for Spec {
    type Delta = Gain;
    const RANK_BOUNDED: bool = false;
    const LOW_RANK: bool = false;
    const RANKED: bool = false;
    const PROVIDES: &'static [Capability] = &[];
    const LACKS: &'static [(Capability, &'static str)] =
        &[(Capability::OwnRanks, "which has no rank"), (Capability::DrawnFactors, "which starts at 1")];
    const REQUIRES: &'static [Requirement] = WHOLE;
    const ROLES: &'static [Role] = &[Role::Gain];

    fn components(&self, _rank: usize) -> usize {
        usize::MAX
    }

    fn peft(&self) -> Option<PeftForm> {
        let fields = vec![
            ("feedforward_modules", Field::Endings(self.feedforward.clone())),
            ("init_ia3_weights", Field::Passive(json!(true))),
        ];
        Some(PeftForm::Tuner(Tuner { peft_type: "IA3", fields }))
    }

    fn peft_tensors(&self, TunedMap { slot, shape: [d_in, d_out], .. }: TunedMap<'_>) -> Vec<TunerTensor> {
        let shape = if self.is_of_inputs(slot) { [1, d_in] } else { [d_out, 1] };
        vec![TunerTensor::shaped("gain", "ia3_l", shape)]
    }

    fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
        let feedforward = config.texts("feedforward_modules").unwrap_or_else(feedforward);
        config.is("IA3").then(|| Self { feedforward, ..Self::default() })
    }

    fn init(&self, at: &mut Site<'_>) -> Gain {
        let ([d_in, d_out], is_of_inputs) = (at.shape, self.is_of_inputs(at.slot));
        let gain = at.zeros(1, if is_of_inputs { d_in } else { d_out });
        let gain = if at.is_given() { gain } else { gain + 1.0 };
        Gain { gain, is_of_inputs, weight_decay_toward: self.weight_decay_toward }
    }
}

impl Delta for Gain {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        let start = self.weight_decay_toward.target(|| self.gain.clone().without_autodiff().slice([0..1]).ones_like());
        vec![Param::new("gain", Role::Gain, &mut self.gain).decaying_toward(start)]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let scale = gate.clone().narrow(2, 0, 1);
        if self.is_of_inputs {
            Form::Input { map: InputMap::Gain(self.gain.clone()), gain: None, scale }
        } else {
            Form::Output { gain: (self.gain.clone() - 1.0) * scale }
        }
    }

    fn bias_gain(&self, gate: &Tensor<3>) -> Option<Tensor<3>> {
        let change = (self.gain.clone() - 1.0) * gate.clone().narrow(2, 0, 1);
        (!self.is_of_inputs).then(|| change + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_name_says_where_the_gain_is() {
        let spec = Spec::default();
        for inputs in
            ["encoder.layer.0.output.dense", "h.3.mlp.c_proj", "layers.1.mlp.down_proj", "decoder.layers.0.fc2", "wo"]
        {
            assert!(spec.is_of_inputs(inputs), "{inputs}");
        }
        for outputs in
            ["encoder.layer.0.attention.self.key", "encoder.layer.0.intermediate.dense", "h.3.attn.c_proj", "layer.two"]
        {
            assert!(!spec.is_of_inputs(outputs), "{outputs}");
        }
    }
}
