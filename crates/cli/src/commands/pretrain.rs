//! `pretrain`: makes an embedded base model again, with a card that says how.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use assets::device;
use data::corpus::Text;
use interop::output::Guard;
use record::{sha256_hex, write_atomic};
use trainer::pretrain::{
    HeldOut, PretrainConfig, Snapshot,
    miniature::{self, Miniature, SHAPES, Shape},
};

use crate::{failure::Failure, identity, output::create_folder, progress::step_bar, terminal::note};

/// Arguments of `pretrain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab pretrain --out my_base --steps 200 --batch 32                    minutes on a CPU, for a look
  lora-lab pretrain --device tch:cuda:0                                     replace the embedded base; rebuild afterwards
  lora-lab pretrain --model story_roberta_256 --device tch:cuda:0           the same for another embedded base")]
pub(crate) struct Pretrain {
    /// Which of the embedded models (`lora-lab list models`) to make: its size and its text.
    #[arg(long, default_value = "mini_roberta")]
    pub model: String,
    /// Folder for config.json, tokenizer.json, model.safetensors and CARD.md [default: the model's under crates/models/assets].
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Write into a folder that this command did not make: files of the same names are replaced, the others stay.
    #[arg(long)]
    pub force: bool,
    /// Seed of weights, text and masks.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Number of optimizer steps [default: the model's, in its card].
    #[arg(long)]
    pub steps: Option<u64>,
    /// Documents per step.
    #[arg(long, default_value_t = 512)]
    pub batch: usize,
    /// Peak learning rate [default: the model's, in its card].
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// Device, by its name in `lora-lab devices`.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// Pretrains and writes the model's files.
pub(super) fn run(args: &Pretrain) -> Result<(), Failure> {
    let shape = shape(&args.model)?;
    let recipe = PretrainConfig {
        seed: args.seed,
        steps: args.steps.unwrap_or(shape.steps),
        batch: args.batch,
        learning_rate: args.learning_rate.unwrap_or(shape.learning_rate),
        max_length: miniature::MAX_LENGTH,
        text: shape.text,
    };
    check(recipe)?;
    let out = args.out.clone().unwrap_or_else(|| Path::new("crates/models/assets").join(shape.name));
    check_target(&out, args.force)?;
    create_folder(&out)?;
    let named = device::parse(&args.device)?;
    let miniature = Miniature::new(shape)?;
    let mut curve = Vec::new();
    let begun = Instant::now();
    let every = (recipe.steps / 20).max(1);
    let bar = step_bar(recipe.steps);
    let trained = miniature.pretrain(recipe, &named, every, &mut |entry, snapshot| {
        bar.set_position(entry.step);
        bar.set_message(format!("loss {:.3}", entry.task_loss));
        let Some(Snapshot { held_out: held, weights, tokens }) = snapshot else { return Ok(()) };
        let seconds = begun.elapsed().as_secs_f64();
        let left = seconds / entry.step as f64 * (recipe.steps - entry.step) as f64;
        bar.suspend(|| {
            note(&format!(
                "step {}/{}: held-out loss {:.3}, {:.1}% of masked tokens right, about {left:.0} s left",
                entry.step,
                recipe.steps,
                held.loss,
                100.0 * held.accuracy
            ));
        });
        curve.push((entry.step, held));
        // Every time, so that an interrupted run leaves a complete model of a stated step.
        let files = miniature.files(&weights)?;
        for (name, bytes) in &files {
            write_atomic(&out.join(name), bytes)?;
        }
        let made = Made { shape, recipe, device: &named.name, seconds, tokens };
        let card = card(&made, &files["model.safetensors"], &curve);
        Ok(write_atomic(&out.join(CARD), card.as_bytes())?)
    });
    bar.finish_and_clear();
    trained.map_err(|error| Failure::Run(error.into()))?;
    note(&format!("wrote {}", out.display()));
    Ok(())
}

/// The miniature of that name.
fn shape(name: &str) -> Result<Shape, Failure> {
    let names: Vec<&str> = SHAPES.iter().map(|shape| shape.name).collect();
    let found = SHAPES.iter().find(|shape| shape.name == name).copied();
    found.ok_or_else(|| {
        let all = names.join(", ");
        Failure::Input(format!("--model: no model `{name}` is made by this command; there are {all}"))
    })
}

fn check(recipe: PretrainConfig) -> Result<(), Failure> {
    for (flag, ok, rule) in [
        ("--steps", recipe.steps >= 1, "at least 1"),
        ("--steps", recipe.steps <= 10_000_000, "at most 10000000"),
        ("--batch", recipe.batch >= 1, "at least 1"),
        ("--batch", recipe.batch <= 65_536, "at most 65536"),
        ("--learning-rate", recipe.learning_rate.is_finite() && recipe.learning_rate > 0.0, "finite and above 0"),
    ] {
        if !ok {
            return Err(Failure::Input(format!("{flag} must be {rule}")));
        }
    }
    Ok(())
}

/// A folder may be written that is new, empty, or has a card of an earlier run.
fn check_target(out: &Path, force: bool) -> Result<(), Failure> {
    Guard::default().check(out)?;
    let is_empty = std::fs::read_dir(out).map_or(true, |mut entries| entries.next().is_none());
    let is_own = || {
        std::fs::read_to_string(out.join(CARD))
            .is_ok_and(|card| SHAPES.iter().any(|shape| card.starts_with(&format!("# {}\n", shape.name))))
    };
    if force || is_empty || is_own() {
        return Ok(());
    }
    Err(Failure::Input(format!(
        "{}: is not empty and not an earlier output of `lora-lab pretrain`; give an empty or new folder with `--out`, or `--force`, which \
         replaces files of the same names",
        out.display()
    )))
}

/// The file that says how the model was made.
const CARD: &str = "CARD.md";

/// How a run came to its model.
struct Made<'a> {
    shape: Shape,
    recipe: PretrainConfig,
    device: &'a str,
    seconds: f64,
    /// Tokens read, special ones included.
    tokens: u64,
}

/// The card's opening: what the model is for, and what it has read.
fn about(shape: Shape) -> String {
    let read = match shape.text {
        Text::Pairs => {
            "pretrained on the language of `glue_mini` (`crates/data/LANGUAGE.md`). It exists so that a study can run at once and \
             anywhere; it knows nothing of English."
        }
        Text::Stories => {
            "pretrained on stories in a small language (`crates/data/UNSEEN.md`): unlabelled text alone, which knows nothing of the \
             tasks of `unseen`. It exists so that a study can run at once and anywhere; it knows nothing of English."
        }
    };
    format!("# {}\n\nA RoBERTa encoder with a masked-language-modelling head, {read}", shape.name)
}

fn card(made: &Made<'_>, weights: &[u8], curve: &[(u64, HeldOut)]) -> String {
    let Made { shape, recipe, device, seconds, tokens } = made;
    let PretrainConfig { seed, steps, batch, learning_rate, .. } = recipe;
    let done = curve.last().map_or(0, |(step, _)| *step);
    let (minutes, hash, about) = (seconds / 60.0, sha256_hex(weights), about(*shape));
    let identity = identity::code();
    let state = if identity.dirty { "with uncommitted changes" } else { "clean" };
    let code = format!("{}, commit {} ({state})", identity.code_hash, identity.commit);
    let mut text = format!(
        "{about}\n\nMade by\n\n```\nlora-lab pretrain --model {} --seed {seed} --steps {steps} --batch {batch} \
         --learning-rate {learning_rate} --device {device}\n```\n\n| | |\n|---|---|\n| size | {} layers, d_model {} |\n\
         | seed | {seed} |\n| steps | {done} of {steps} planned, {batch} documents each |\n| tokens read | {tokens} |\n\
         | optimizer | AdamW, betas 0.9 and 0.98, decay 0.01, linear with 5% warm-up, \
         clipping at 1 |\n| trained in | f32 on `{device}`, {minutes:.1} minutes |\n| stored in | f16 |\n| code | {code} |\n\
         | SHA-256 of model.safetensors | `{hash}` |\n\nHeld-out documents (never trained on; masked as in training):\n\n\
         | step | loss (nats) | masked tokens right |\n|---|---|---|\n",
        shape.name, shape.n_layers, shape.d_model
    );
    for (step, held) in curve {
        let _ = writeln!(text, "| {step} | {:.3} | {:.1}% |", held.loss, 100.0 * held.accuracy);
    }
    text
}
