//! The form that PEFT has for a composition, as its parts declare it.

use crate::{delta::shared_random, spec::VariantSpec};

/// The form in which PEFT holds an update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PeftForm {
    /// `LoraConfig`: the factors `a` and `b` as they are.
    Lora,
    /// `LoraConfig` of twice the rank: the factors `a` and `b` beside their frozen start `start_a` and `start_b`, whose sign is turned.
    DoubledLora {
        /// The `init_lora_weights` by which PEFT takes the same start off its base itself, so that `a` and `b` are enough.
        start: Option<&'static str>,
    },
    /// `AdaLoraConfig`: `q`, `lambda` and `p` without the components whose `lambda` is 0.
    AdaLora,
    /// `VeraConfig`: two vectors, and the pair that this recipe draws or keeps.
    Vera(shared_random::Spec),
}

impl PeftForm {
    /// PEFT's `peft_type`.
    pub fn peft_type(self) -> &'static str {
        match self {
            Self::Lora | Self::DoubledLora { .. } => "LORA",
            Self::AdaLora => "ADALORA",
            Self::Vera(_) => "VERA",
        }
    }
}

/// Why PEFT has no form for a composition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPeftForm {
    /// It adapts no map.
    NoAdapter,
    /// PEFT does not have the delta, or not with this combination.
    NoCounterpart,
}

impl VariantSpec {
    /// The form that PEFT has for it.
    pub fn peft_form(&self) -> Result<PeftForm, NoPeftForm> {
        let delta = self.delta.as_ref().ok_or(NoPeftForm::NoAdapter)?;
        let (form, use_dora) = delta.peft().zip(self.combine.peft_use_dora()).ok_or(NoPeftForm::NoCounterpart)?;
        // `use_dora` is LoRA's alone, and only a LoRA has room for what is accumulated beside it.
        let is_accumulated = !self.base_update.is_none() && form != PeftForm::Lora;
        if is_accumulated || use_dora && form.peft_type() != "LORA" { Err(NoPeftForm::NoCounterpart) } else { Ok(form) }
    }
}
