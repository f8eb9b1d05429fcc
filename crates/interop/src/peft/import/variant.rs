//! The preset and the composition that a configuration means.

use variants::{
    base::BiasSpec,
    delta::{DeltaSpec, residual_init, shared_random::Save},
    peft::{Field, PeftForm, TunerConfig},
    preset,
    rank::{AnyRankPolicy, constant::Constant},
    scaling::Scaling,
    spec::VariantSpec,
};

use super::super::{fields::residual_start, said::Opened, said::Said};

/// Preset and composition, or the rule that the configuration breaks.
pub(super) fn variant(opened: &Opened) -> Result<(&'static str, VariantSpec), String> {
    let said = &opened.said;
    if let Some(delta) = DeltaSpec::of_peft(TunerConfig(&opened.whole)) {
        return tuned(opened, delta);
    }
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

/// Preset and composition of a tuner, whose fields the gate has held against what the delta declares.
fn tuned(opened: &Opened, delta: DeltaSpec) -> Result<(&'static str, VariantSpec), String> {
    let (config, form) = (TunerConfig(&opened.whole), delta.peft());
    let Some(PeftForm::Tuner(tuner)) = form else { unreachable!("it is read from a tuner's configuration") };
    let rank = match tuner.field(|field| *field == Field::Rank) {
        Some(field) => config
            .count(field)
            .filter(|rank| *rank > 0)
            .ok_or_else(|| format!("{field} is missing or 0, but must be 1 or more; save the adapter again"))?,
        None => 0,
    };
    let is_its =
        |preset: &&'static preset::Preset| (preset.spec)(rank).delta.is_some_and(|own| own.kind() == delta.kind());
    let preset = preset::all().into_iter().find(is_its).ok_or_else(|| format!("no preset is a {}", tuner.peft_type))?;
    let mut spec = VariantSpec { delta: Some(delta), ..(preset.spec)(rank) };
    spec.scaling = Scaling::Constant { value: 1.0 };
    if let Some(field) = tuner.field(|field| *field == Field::Alpha) {
        let alpha = opened.whole.get(field).and_then(serde_json::Value::as_f64);
        spec.alpha = alpha.filter(|alpha| *alpha != 0.0).ok_or_else(|| {
            format!("{field} is missing or 0, by which the adapter has no effect; save the adapter again")
        })?;
        spec.scaling = Scaling::AlphaOverRank;
    }
    let dropout = tuner.field(|field| *field == Field::Dropout).and_then(|field| opened.whole.get(field)?.as_f64());
    spec.dropout = dropout.unwrap_or(0.0);
    Ok((preset.name, spec))
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
