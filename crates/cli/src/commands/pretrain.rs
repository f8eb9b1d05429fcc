//! `pretrain`: makes the embedded base model again, with a card that says how.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use assets::device;
use interop::output::Guard;
use record::{sha256_hex, write_atomic};
use trainer::pretrain::{
    HeldOut, PretrainConfig,
    miniature::{self, Miniature},
};

use crate::{failure::Failure, identity, output::create_folder, progress::step_bar, terminal::note};

/// Arguments of `pretrain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab pretrain --out my_base --steps 200 --batch 32                    minutes on a CPU, for a look
  lora-lab pretrain --device tch:cuda:0                                     replace the embedded base; rebuild afterwards")]
pub(crate) struct Pretrain {
    /// Folder for config.json, tokenizer.json, model.safetensors and CARD.md.
    #[arg(long, default_value = "crates/models/assets/mini_roberta")]
    pub out: PathBuf,
    /// Write into a folder that this command did not make: files of the same names are replaced, the others stay.
    #[arg(long)]
    pub force: bool,
    /// Seed of weights, text and masks.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Number of optimizer steps.
    #[arg(long, default_value_t = 7407)]
    pub steps: u64,
    /// Documents per step.
    #[arg(long, default_value_t = 512)]
    pub batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 2e-3)]
    pub learning_rate: f64,
    /// Device, by its name in `lora-lab devices`.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// Pretrains and writes the model's files.
pub(super) fn run(args: &Pretrain) -> Result<(), Failure> {
    check(args)?;
    check_target(&args.out, args.force)?;
    create_folder(&args.out)?;
    let named = device::parse(&args.device)?;
    let recipe = PretrainConfig {
        seed: args.seed,
        steps: args.steps,
        batch: args.batch,
        learning_rate: args.learning_rate,
        max_length: miniature::MAX_LENGTH,
    };
    let miniature = Miniature::new()?;
    let mut curve = Vec::new();
    let begun = Instant::now();
    let every = (args.steps / 20).max(1);
    let bar = step_bar(args.steps);
    let trained = miniature.pretrain(recipe, &named, every, &mut |entry, news| {
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
        // Every time, so that an interrupted run leaves a complete model of a stated step.
        let files = miniature.files(&weights)?;
        for (name, bytes) in &files {
            write_atomic(&args.out.join(name), bytes)?;
        }
        let card = card(args, &named.name, &files["model.safetensors"], &curve, seconds);
        Ok(write_atomic(&args.out.join(CARD), card.as_bytes())?)
    });
    bar.finish_and_clear();
    trained.map_err(|error| Failure::Run(error.into()))?;
    note(&format!("wrote {}", args.out.display()));
    Ok(())
}

fn check(args: &Pretrain) -> Result<(), Failure> {
    for (flag, ok, rule) in [
        ("--steps", args.steps >= 1, "at least 1"),
        ("--steps", args.steps <= 10_000_000, "at most 10000000"),
        ("--batch", args.batch >= 1, "at least 1"),
        ("--batch", args.batch <= 65_536, "at most 65536"),
        ("--learning-rate", args.learning_rate.is_finite() && args.learning_rate > 0.0, "finite and above 0"),
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
    let is_own = || std::fs::read_to_string(out.join(CARD)).is_ok_and(|card| card.starts_with(TITLE));
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

/// How it begins.
const TITLE: &str = "# mini_roberta\n";

fn card(args: &Pretrain, device: &str, weights: &[u8], curve: &[(u64, HeldOut)], seconds: f64) -> String {
    let Pretrain { seed, steps, batch, learning_rate, .. } = args;
    let done = curve.last().map_or(0, |(step, _)| *step);
    let (minutes, hash) = (seconds / 60.0, sha256_hex(weights));
    let identity = identity::code();
    let state = if identity.dirty { "with uncommitted changes" } else { "clean" };
    let code = format!("{}, commit {} ({state})", identity.code_hash, identity.commit);
    let mut text = format!(
        "{TITLE}\nA RoBERTa encoder with a masked-language-modelling head, pretrained on the language of \
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
