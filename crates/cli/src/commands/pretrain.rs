//! `pretrain`: makes the embedded base model again, with a card that says how.

use std::{fmt::Write, time::Instant};

use assets::device;
use burn::tensor::DType;
use data::tokenize::{Tokenizer, build_tokenizer_json};
use models::encoder::{Config, Kind};
use record::{sha256_hex, write_atomic};
use trainer::pretrain::{Held, Recipe, pretrain};
use variants::host::Placement;

use crate::{
    args::Pretrain,
    identity,
    terminal::{Failure, create_folder, note, step_bar},
};

/// Longest document in tokens; two positions are RoBERTa's offset.
const MAX_LENGTH: usize = 64;

/// The shape of the miniature: between 1 and 2 million parameters.
fn config(vocabulary: usize) -> Config {
    Config {
        kind: Kind::Roberta,
        hidden_act: models::config::Activation::Gelu,
        classifier_dropout: None,
        position_embedding_type: None,
        hidden_size: 128,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        intermediate_size: 512,
        vocab_size: vocabulary,
        max_position_embeddings: MAX_LENGTH + 2,
        type_vocab_size: 1,
        layer_norm_eps: 1e-5,
        pad_token_id: 1,
        initializer_range: 0.02,
        // Text is generated without end, so there is nothing to overfit; fine-tuning uses the adapters' dropout.
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
    }
}

/// Pretrains and writes the model's files.
pub(super) fn run(args: &Pretrain) -> Result<(), Failure> {
    for (flag, ok, rule) in [
        ("--steps", args.steps >= 1, "at least 1"),
        ("--batch", args.batch >= 1, "at least 1"),
        ("--learning-rate", args.learning_rate.is_finite() && args.learning_rate > 0.0, "finite and above 0"),
    ] {
        if !ok {
            return Err(Failure::Input(format!("{flag} must be {rule}")));
        }
    }
    create_folder(&args.out)?;
    let named = device::parse(&args.device).map_err(|error| Failure::Input(error.to_string()))?;
    let place = Placement::new(&named.device, DType::F32);
    let tokenizer_json = build_tokenizer_json();
    let tokenizer = Tokenizer::from_bytes(tokenizer_json.as_bytes())?;
    let config = config(tokenizer.vocab_size());
    let config_json = config_json(&config)?;
    let recipe = Recipe {
        seed: args.seed,
        steps: args.steps,
        batch: args.batch,
        learning_rate: args.learning_rate,
        max_length: MAX_LENGTH,
    };
    let mut curve = Vec::new();
    let begun = Instant::now();
    let every = (args.steps / 20).max(1);
    let bar = step_bar(args.steps);
    let trained = pretrain(&config, &tokenizer, recipe, &place, every, &mut |entry, news| {
        bar.set_position(entry.step);
        bar.set_message(format!("loss {:.3}", entry.task_loss));
        let Some((held, weights)) = news else { return Ok(()) };
        let seconds = begun.elapsed().as_secs_f64();
        let left = seconds / entry.step as f64 * (args.steps - entry.step) as f64;
        bar.suspend(|| {
            note(&format!(
                "step {}/{}: held-out loss {:.3}, {:.1}% of masked tokens right, about {left:.0} s left",
                entry.step,
                args.steps,
                held.loss,
                100.0 * held.accuracy
            ));
        });
        curve.push((entry.step, held));
        // Every time, so that an interrupted run leaves a whole model of a stated step.
        let bytes = weights.write_f16(published)?;
        let write = |name: &str, bytes: &[u8]| write_atomic(&args.out.join(name), bytes);
        write("config.json", &config_json)?;
        write("tokenizer.json", tokenizer_json.as_bytes())?;
        write("model.safetensors", &bytes)?;
        write("CARD.md", card(args, &named.name, &bytes, &curve, seconds).as_bytes())?;
        Ok(())
    });
    bar.finish_and_clear();
    trained?;
    note(&format!("wrote {}", args.out.display()));
    Ok(())
}

/// A tensor's name in Hugging Face's `RobertaForMaskedLM`.
fn published(name: &str) -> String {
    if name.starts_with("lm_head") { name.to_owned() } else { format!("roberta.{name}") }
}

/// config.json as transformers reads it.
fn config_json(config: &Config) -> Result<Vec<u8>, Failure> {
    let mut json = serde_json::to_value(config)?;
    let extra = serde_json::json!({
        "architectures": ["RobertaForMaskedLM"],
        "bos_token_id": 0,
        "eos_token_id": 2,
        "hidden_act": "gelu",
        "model_type": "roberta",
        "position_embedding_type": "absolute",
        "tie_word_embeddings": true,
        "torch_dtype": "float16",
    });
    if let (Some(json), Some(extra)) = (json.as_object_mut(), extra.as_object()) {
        json.extend(extra.clone());
    }
    Ok(serde_json::to_vec_pretty(&json)?)
}

fn card(args: &Pretrain, device: &str, weights: &[u8], curve: &[(u64, Held)], seconds: f64) -> String {
    let Pretrain { seed, steps, batch, learning_rate, .. } = args;
    let done = curve.last().map_or(0, |(step, _)| *step);
    let (minutes, hash) = (seconds / 60.0, sha256_hex(weights));
    let identity = identity::code();
    let state = if identity.dirty { "with uncommitted changes" } else { "clean" };
    let code = format!("{}, commit {} ({state})", identity.code_hash, identity.commit);
    let mut text = format!(
        "# mini_roberta\n\nA RoBERTa encoder with a masked-language-modelling head, pretrained on the language of \
         `glue_mini` (`crates/data/LANGUAGE.md`). It exists so that a study can run at once and anywhere; it knows \
         nothing of English.\n\nMade by\n\n```\nlora-lab pretrain --seed {seed} --steps {steps} --batch {batch} \
         --learning-rate {learning_rate} --device {device}\n```\n\n| | |\n|---|---|\n| seed | {seed} |\n| steps | {done} of {steps} planned, \
         {batch} documents each |\n| optimizer | AdamW, betas 0.9 and 0.98, decay 0.01, linear with 5% warm-up, \
         clipping at 1 |\n| trained in | f32 on `{device}`, {minutes:.0} minutes |\n| stored in | f16 |\n| code | {code} |\n\
         | SHA-256 of model.safetensors | `{hash}` |\n\nHeld-out documents (never trained on; masked as in training):\n\n\
         | step | loss (nats) | masked tokens right |\n|---|---|---|\n"
    );
    for (step, held) in curve {
        let _ = writeln!(text, "| {step} | {:.3} | {:.1}% |", held.loss, 100.0 * held.accuracy);
    }
    text
}
