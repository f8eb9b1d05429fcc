//! The preset and the composition that a configuration means.

use variants::{
    base::BiasSpec,
    delta::{DeltaSpec, residual_init, shared_random::Save},
    preset,
    rank::{AnyRankPolicy, constant::Constant},
    scaling::Scaling,
    spec::VariantSpec,
};

use super::super::{fields::residual_start, said::Said};

/// Preset and composition, or the rule that the configuration breaks.
pub(super) fn variant(said: &Said) -> Result<(&'static str, VariantSpec), String> {
    let name = preset_of(said)?;
    let rank = rank(said)?;
    let preset = preset::find(name).unwrap_or_else(|_| unreachable!("a preset of that name is registered"));
    let mut spec = (preset.spec)(rank);
    (spec.bias, spec.dropout) = (bias(said), said.lora_dropout);
    match said.peft_type.as_str() {
        // PEFT's AdaLoRA takes the rank where alpha is not above 0.
        "ADALORA" if said.lora_alpha <= 0.0 => spec.alpha = rank as f64,
        "LORA" | "ADALORA" => spec.alpha = said.lora_alpha,
        _ => {}
    }
    if said.peft_type == "LORA" && said.use_rslora {
        spec.scaling = Scaling::AlphaOverSqrtRank;
    }
    match &mut spec.delta {
        Some(DeltaSpec::SharedRandom(vera)) => {
            vera.pair = Save::Yes;
            vera.projection_seed = said.projection_prng_key.unwrap_or(0);
            vera.d_initial = said.d_initial.unwrap_or(vera.d_initial);
        }
        Some(DeltaSpec::ResidualInit(own)) if name == "olora" => own.start = residual_init::Start::Qr,
        _ => {}
    }
    if let AnyRankPolicy::Budget(budget) = &mut spec.rank_policy {
        spec.orthogonality = said.orth_reg_weight.unwrap_or(spec.orthogonality);
        match said.target_r.filter(|target| (1..rank).contains(target)) {
            Some(target) => budget.target_rank = target,
            None => spec.rank_policy = AnyRankPolicy::Constant(Constant {}),
        }
    }
    Ok((name, spec))
}

/// The preset's name.
fn preset_of(said: &Said) -> Result<&'static str, String> {
    match said.peft_type.as_str() {
        "ADALORA" => return Ok("adalora"),
        "VERA" => return Ok("vera"),
        _ => {}
    }
    let plain = if said.use_dora {
        "dora"
    } else if said.use_rslora {
        "rslora"
    } else {
        "lora"
    };
    let Some(start) = residual_start(&said.init_lora_weights) else { return Ok(plain) };
    match start.as_str() {
        "pissa" | "olora" if said.use_dora => Err(format!("init_lora_weights `{start}` beside use_dora is not read")),
        "pissa" => Ok("pissa"),
        "olora" => Ok("olora"),
        _ => Err(format!(
            "init_lora_weights is `{start}`, which changed the base at the start in a way that cannot be repeated exactly here; save it \
             with PEFT's conversion to plain LoRA (path_initial_model_for_weight_conversion) first"
        )),
    }
}

/// AdaLoRA's rank where its configuration has none: PEFT's default.
const INIT_R: usize = 12;

fn rank(said: &Said) -> Result<usize, String> {
    let (field, rank) =
        if said.peft_type == "ADALORA" { ("init_r", Some(said.init_r.unwrap_or(INIT_R))) } else { ("r", said.r) };
    rank.filter(|rank| *rank > 0)
        .ok_or_else(|| format!("{field} is missing or 0, but a rank is at least 1; save the adapter again"))
}

/// Which biases train; the gate has seen that it is one of these.
fn bias(said: &Said) -> BiasSpec {
    match said.bias.as_deref() {
        Some("all") => BiasSpec::All,
        Some("lora_only" | "vera_only") => BiasSpec::LoraOnly,
        _ => BiasSpec::None,
    }
}
