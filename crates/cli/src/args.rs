//! What can be written on the command line. Flags choose which experiment and how much output; what changes a
//! result lives in the YAML, or in `--set`, which is recorded.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Research on low-rank adaptation: train a grid of LoRA variants, compare them with honest statistics.
#[derive(Debug, Parser)]
#[command(
    name = "lora-lab",
    version,
    after_help = "\
Examples:
  lora-lab check experiments/dylora_glue.yaml      find every problem before anything runs
  lora-lab run experiments/dylora_glue.yaml        train what is missing, then print the table
  lora-lab table dylora_glue --format latex        the same table for a paper
  lora-lab figures dylora_glue                     its figures as SVG and PNG
  lora-lab analyze phi RUN_A RUN_B --out phi.csv   subspace similarity of two adapters
  lora-lab list variants                           what can be written under `variants:`

Running the same command again continues: finished cells are skipped, a started one resumes to the same bits.
Exit status: 0 done, 1 a run failed, 2 bad input, 130 interrupted."
)]
pub(crate) struct Args {
    /// Where results are kept.
    #[arg(long, global = true, default_value = "results", value_name = "DIR")]
    pub results: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train every cell of an experiment that has no record yet, then write its tables.
    Run(Run),
    /// Check experiments and report every problem at once; nothing is trained.
    Check(Check),
    /// List what can be named in an experiment.
    List {
        /// What to list.
        what: What,
    },
    /// Show devices: which are in this build, which are present, and which one `auto` takes.
    Devices,
    /// Write and print an experiment's tables from its records.
    Table(Table),
    /// Evaluate a trained adapter, a DyLoRA one at any rank.
    Eval(Eval),
    /// Write the logits of a trained run or a fine-tuned checkpoint, the benchmark's files to hand in, or generated texts.
    Predict(Predict),
    /// Write a trained adapter as a plain one of a smaller rank: a DyLoRA adapter at any rank it was trained for, any
    /// additive one by its best approximation.
    Export(Export),
    /// Make an adapter that PEFT trained one of this program.
    Import(Import),
    /// Fold a trained adapter into its base: a checkpoint that transformers opens, and how far its logits moved.
    Merge(Merge),
    /// Combine several adapters into one LoRA in PEFT's format: sums, TIES, DARE, pruning, in the space of the updates.
    Combine(Combine),
    /// Measure the subspaces of adapters: overlap, angles, projection on the base, spectra, movement.
    #[command(subcommand)]
    Analyze(Analyze),
    /// Draw the figures of experiments from their records, and from their adapters where these are at hand.
    Figures(Figures),
    /// Compare study results with the papers' reported numbers: target, found, difference, verdict.
    #[command(alias = "paper")]
    Claims(Claims),
    /// Pretrain the embedded base model from random weights.
    Pretrain(Pretrain),
}

/// `run`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab run experiments/dylora_glue.yaml
  lora-lab run exp/quick.yaml --set train.steps=20 --set name=shorter     another recipe, kept under another name
  lora-lab run exp/quick.yaml --force                                     from the beginning

Stop it at any time (Ctrl-C saves; a kill loses at most the steps since the last checkpoint) and run it again.")]
pub(crate) struct Run {
    /// The experiment; `exp/NAME.yaml` means `experiments/NAME.yaml`.
    pub experiment: PathBuf,
    /// Override a field, e.g. `--set train.steps=50`; recorded with the results.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Device: cpu, or what `lora-lab devices` shows.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Cohorts trained at once; one per core on a CPU by default.
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Throw existing records and started work of this experiment's cells away and train them again.
    #[arg(long)]
    pub force: bool,
    /// Train the runs again that failed.
    #[arg(long)]
    pub retry_failed: bool,
}

/// `check`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab check experiments/*.yaml
  lora-lab check my.yaml --set train.learning_rate=1e-3")]
pub(crate) struct Check {
    /// The experiments.
    #[arg(required = true)]
    pub experiments: Vec<PathBuf>,
    /// Override a field, as in `run`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// What `list` lists.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum What {
    /// Presets that can stand under `variants:`.
    Variants,
    /// Tasks of every suite.
    Tasks,
    /// Base models.
    Models,
    /// Experiments under `experiments/`.
    Experiments,
    /// The same as `lora-lab devices`.
    Devices,
}

/// `table`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab table dylora_glue
  lora-lab table dylora_glue --format latex        for a paper
  lora-lab table dylora_glue --format csv          summary.csv, one line per row, metric and split

Everything is also written under results/<name>/tables: main, ranks, comparison and contrasts, each as .txt, .md and .tex.")]
pub(crate) struct Table {
    /// An experiment's YAML, or its name under `experiments/`.
    pub experiment: PathBuf,
    /// How to print it.
    #[arg(long, default_value = "text")]
    pub format: Format,
    /// Overrides that the run was made with.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Output formats of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    Text,
    /// summary.csv
    Csv,
    /// For a README.
    Markdown,
    /// For a paper (booktabs).
    Latex,
}

/// `eval`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab eval results/dylora_glue/runs/sst2-dylora-r8-s0                 every rank from one checkpoint
  lora-lab eval results/dylora_glue/runs/sst2-dylora-r8-s0 --rank 1,8")]
pub(crate) struct Eval {
    /// An adapter file, or the folder it lies in.
    pub adapter: PathBuf,
    /// Ranks to evaluate at, e.g. `1,2,8`; every rank of a DyLoRA adapter, or the full rank, by default.
    #[arg(long, value_delimiter = ',')]
    pub rank: Vec<usize>,
    /// Device.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// `predict`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab predict --adapter results/x/runs/cola-lora-r8-s0 --split test --submission glue_upload
  lora-lab predict --adapter results/x/runs/cola-lora-r8-s0 --data CoLA/dev.tsv --out logits.safetensors
  lora-lab predict --adapter peft_folder --model path/to/base --task cola --data CoLA/dev.tsv --out logits.safetensors
  lora-lab predict --model path/to/finetuned --task rte --data RTE/dev.tsv --out logits.safetensors
  lora-lab predict --adapter results/e2e/runs/e2e-lora-r4-s0 --split test --out texts.jsonl

The file of logits has `logits` [rows, outputs] and `labels` [rows] (NaN where unknown), f32. A file's rows are read in the layout
of the run's task. Metrics go to stdout where every label is known.")]
pub(crate) struct Predict {
    /// A run's folder, its adapter.safetensors, or a folder that PEFT wrote.
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// A checkpoint with a classification head; beside `--adapter`, where its base lies now.
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
    /// A task of GLUE, for a checkpoint without adapter and for a folder that PEFT wrote.
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    /// Rows to predict.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// A split of the run's own data.
    #[arg(long, value_name = "NAME", conflicts_with = "data")]
    pub split: Option<String>,
    /// File for the logits (safetensors), or the texts (JSON lines).
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Folder for the benchmark's file of predictions.
    #[arg(long, value_name = "DIR")]
    pub submission: Option<PathBuf>,
    /// Device.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// `export`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab export results/dylora_glue/runs/sst2-dylora-r8-s0 --rank 3 --out my_adapter
  lora-lab eval my_adapter                         the same numbers as `eval RUN --rank 3`
  lora-lab export results/glue/runs/cola-lora-r8-s0 --to peft --out for_peft
  lora-lab export results/glue/runs/cola-vera-r256-s0 --to peft --svd --rank 16 --out as_lora

A folder for PEFT has adapter_config.json and adapter_model.safetensors; `PeftModel.from_pretrained(base, FOLDER)` opens it. LoRA, rsLoRA,
LoRA+, LoRA-FA, DyLoRA, DoRA, VeRA and AdaLoRA keep their numbers; PiSSA, MiLoRA and OLoRA become LoRA of twice the rank, or keep their
factors with `--residual`. With `--svd --rank R` any update becomes a plain LoRA, and stdout says what each map lost by it.")]
pub(crate) struct Export {
    /// An adapter file, or the folder it lies in.
    pub adapter: PathBuf,
    /// The format of the new adapter.
    #[arg(long, value_name = "FORMAT", default_value = "lora-lab")]
    pub to: FormatName,
    /// The rank of the new adapter; with `--to peft` its own by default.
    #[arg(long)]
    pub rank: Option<usize>,
    /// Folder for the new adapter; for PEFT new, empty, or an earlier output of this command.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Take the best approximation of the update instead of its first components.
    #[arg(long, requires = "rank")]
    pub svd: bool,
    /// For PEFT: write the factors of PiSSA or OLoRA alone; PEFT takes their start off the base when it opens them.
    #[arg(long, conflicts_with = "svd")]
    pub residual: bool,
    /// Where the base lies now, if elsewhere than in training.
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
}

/// Formats of adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    /// adapter.safetensors of this program.
    LoraLab,
    /// The folder of Hugging Face PEFT: configuration and weights.
    Peft,
}

/// `import`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab import peft_folder --model models/all-MiniLM-L6-v2 --task cola --out cola_adapter
  lora-lab predict --adapter cola_adapter --data CoLA/dev.tsv --out logits.safetensors
  lora-lab import e2e_folder --experiment experiments/lora_e2e_gpt2.yaml --task e2e --out e2e_adapter

LORA (with rsLoRA, DoRA, PiSSA, OLoRA), ADALORA and VERA are read. The folder does not say what it was trained for: give the task, one of
GLUE or of an experiment's. A folder that `export --to peft` wrote knows it.")]
pub(crate) struct Import {
    /// A folder that PEFT wrote.
    pub folder: PathBuf,
    /// Folder for the adapter; new, empty, or an earlier output of this command.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What the adapter is for, and where its base lies.
    #[command(flatten)]
    pub purpose: PurposeArgs,
}

/// What a folder that PEFT wrote does not say.
#[derive(Debug, clap::Args)]
pub(crate) struct PurposeArgs {
    /// The base, if not where the configuration says.
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
    /// The task that it was trained for.
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    /// The suite of the task.
    #[arg(long, default_value = "glue", conflicts_with = "experiment")]
    pub suite: String,
    /// An experiment whose suite and data the task is from.
    #[arg(long, value_name = "FILE", requires = "task")]
    pub experiment: Option<PathBuf>,
}

/// `merge`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab merge results/glue/runs/cola-lora-r8-s0 --out cola_merged
  lora-lab merge results/glue/runs/cola-lora-r8-s0 --out cola_half --dtype f16
  lora-lab merge results/dylora_glue/runs/sst2-dylora-r8-s0 --rank 2 --out sst2_rank2

The folder has config.json, model.safetensors and the tokenizer's files; `AutoModelForSequenceClassification.from_pretrained` opens
it, or `AutoModelForCausalLM` for a run on text. stdout has one line per type: the largest difference between the logits of the
merged model with weights of that type and those of base and adapter in f32, and the rows whose largest logit is another one.
The adapter stays as it is, and so does its base: delete the folder to undo the merge.")]
pub(crate) struct Merge {
    /// A run's folder, or its adapter.safetensors.
    pub adapter: PathBuf,
    /// Folder for the checkpoint; new, empty, or an earlier output of this command.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Type of the written numbers. f32 keeps the merged weights as they are; f16 and bf16 halve the file and round them.
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub dtype: WidthName,
    /// Components to merge, for a DyLoRA adapter; all by default.
    #[arg(long)]
    pub rank: Option<usize>,
    /// Where the base lies now, if elsewhere than in training.
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
    /// Rows to compare on, in the layout of the run's task.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// A split of the run's own data to compare on; its first evaluation split by default.
    #[arg(long, value_name = "NAME", conflicts_with = "data")]
    pub split: Option<String>,
    /// Most rows to compare on (of texts, at most 16).
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub rows: u32,
    /// Device.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// Types of a checkpoint's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WidthName {
    /// 32 bits.
    F32,
    /// 16 bits, 11 of them the number's own.
    F16,
    /// 16 bits, 8 of them the number's own.
    Bf16,
}

/// `combine`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab combine RUN_A=0.5 RUN_B=0.5 --method linear --out mean                 the exact mean of two updates
  lora-lab combine RUN_A RUN_B=-0.4 --method svd --rank 8 --out difference        the best LoRA of rank 8 of A - 0.4*B
  lora-lab combine RUN_A RUN_B PEFT_C --method ties --density 0.2 --rank 16 --out ties
  lora-lab combine RUN_A RUN_B --method dare --density 0.1 --seed 1 --rank 16 --head RUN_A --out dare

Every method works on the dense updates, scale included, never on A and B apart, so no cross terms arise. The adapters may differ in
rank, method and adapted maps; a map that one of them leaves alone counts as zero there. The folder has adapter_config.json and
adapter_model.safetensors and is read by PEFT and by `analyze`; its scale is 1. stdout has one line per map and one for all: the rank,
the Frobenius norm of the combination, and what was lost by bringing it to that rank. Reducing ties, dare and magnitude_prune to a
rank can lose much: their results are not of low rank.")]
pub(crate) struct Combine {
    /// Runs' folders, their adapter.safetensors, or folders that PEFT wrote, each with its weight after `=`; 1 without.
    #[arg(required = true, value_name = "ADAPTER[=WEIGHT]")]
    pub adapters: Vec<String>,
    /// How they are combined.
    #[arg(long)]
    pub method: MethodName,
    /// Largest rank of a map (not of linear and cat).
    #[arg(long)]
    pub rank: Option<usize>,
    /// Share of every update that stays, above 0 and at most 1 (ties, dare and pruning).
    #[arg(long, value_name = "SHARE")]
    pub density: Option<f64>,
    /// Seed of the masks (dare); 0 without.
    #[arg(long)]
    pub seed: Option<u64>,
    /// How the sign of an entry is elected (ties); by mass without.
    #[arg(long)]
    pub election: Option<ElectionName>,
    /// Take the classification head of this adapter along, named by its path as above.
    #[arg(long, value_name = "ADAPTER")]
    pub head: Option<PathBuf>,
    /// Folder for the new adapter; new, empty, or an earlier output of this command.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Methods of combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MethodName {
    /// The weighted sum, exact, at its own rank; task arithmetic (arXiv:2212.04089), where a negative weight forgets.
    #[value(alias = "task_arithmetic")]
    Linear,
    /// The same sum with all factors side by side, at the sum of the ranks.
    Cat,
    /// The best approximation of the sum at a rank.
    Svd,
    /// Trim each to the largest entries, elect a sign per entry, take the mean of those that agree (arXiv:2306.01708).
    Ties,
    /// Drop entries at random, rescale the rest, sum (arXiv:2311.03099).
    Dare,
    /// Trim each to the largest entries, sum.
    #[value(name = "magnitude_prune")]
    MagnitudePrune,
}

/// How TIES elects a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ElectionName {
    /// The sign with more mass.
    Total,
    /// The sign that more adapters have.
    Frequency,
}

/// `analyze`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  lora-lab analyze phi RUN_A RUN_B --side delta --out phi.csv      ranks, seeds, tasks or variants
  lora-lab analyze phi RUN/snapshots/00000050.safetensors RUN      a checkpoint against the end
  lora-lab analyze layers RUN --maps 'query$'                      layers of one adapter
  lora-lab analyze captured-energy LORA_FA_RUN FULL_RUN            what a frozen A could have expressed
  lora-lab analyze spectrum RUN --directions --format json")]
pub(crate) enum Analyze {
    /// Grassmann similarity φ(i, j) of two adapters, for every map they share: columns module,i,j,phi.
    Phi(Pair),
    /// Principal angles in radians and the projection distance of two adapters: columns module,k,angle,distance.
    Angles(Pair),
    /// LoRA's table 7: how much of W lies in the directions of ΔW, and how much these are amplified.
    Projection(Adapters),
    /// W against ΔW (LoRA, appendix H.3), with the mean over random subspaces beside φ.
    #[command(alias = "heat")]
    Heatmap(Heatmap),
    /// Spectrum of ΔW and intruder dimensions of W + ΔW.
    Spectrum(Spectrum),
    /// Overlap of the layers of one adapter: columns `kind,first_layer,second_layer,i,j,phi,random_mean,ambiguous`.
    Layers(Layers),
    /// How much of a second adapter's ΔW lies in the span of the first one's A: columns `module,rank,reach,random_mean`.
    #[command(alias = "reach")]
    CapturedEnergy(CapturedEnergy),
    /// Change of magnitude and direction, and the way to the final update, over a run's snapshots.
    #[command(alias = "movement")]
    MagnitudeDirection(Adapters),
    /// Every table of an experiment whose adapters are at hand, under results/NAME/analysis.
    Study {
        /// An experiment's YAML, or its name under `experiments/`.
        experiment: PathBuf,
        /// Overrides that the run was made with.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
}

/// Two adapters.
#[derive(Debug, clap::Args)]
pub(crate) struct Pair {
    /// A run's folder, its adapter.safetensors, or a folder that PEFT wrote.
    pub first: PathBuf,
    /// The other one.
    pub second: PathBuf,
    /// Whose directions: the factor on the inputs (A), on the outputs (B), or ΔW.
    #[arg(long, default_value = "a")]
    pub side: SideName,
    /// What and where to write.
    #[command(flatten)]
    pub output: Output,
}

/// `analyze heatmap`
#[derive(Debug, clap::Args)]
pub(crate) struct Heatmap {
    /// A run's folder, its adapter.safetensors, or a folder that PEFT wrote.
    pub adapter: PathBuf,
    /// The base of a PEFT adapter, by its name in `lora-lab list models`.
    #[arg(long, value_name = "MODEL")]
    pub base: Option<String>,
    /// Leading directions of W.
    #[arg(long, default_value_t = 64)]
    pub top: usize,
    /// Directions in the space of outputs instead of inputs.
    #[arg(long)]
    pub outputs: bool,
    /// What and where to write.
    #[command(flatten)]
    pub output: Output,
}

/// `analyze spectrum`
#[derive(Debug, clap::Args)]
pub(crate) struct Spectrum {
    /// Adapters and where the table goes.
    #[command(flatten)]
    pub adapters: Adapters,
    /// One row per direction instead of one per map: singular value, share of the energy, cumulative share.
    #[arg(long)]
    pub directions: bool,
}

/// `analyze layers`
#[derive(Debug, clap::Args)]
pub(crate) struct Layers {
    /// A run's folder, its adapter.safetensors, or a folder that PEFT wrote.
    pub adapter: PathBuf,
    /// Whose directions: the factor on the inputs (A), on the outputs (B), or ΔW.
    #[arg(long, default_value = "a")]
    pub side: SideName,
    /// What and where to write.
    #[command(flatten)]
    pub output: Output,
}

/// `analyze captured-energy`
#[derive(Debug, clap::Args)]
pub(crate) struct CapturedEnergy {
    /// The adapter whose A spans the space, such as LoRA-FA's or VeRA's.
    pub factor: PathBuf,
    /// The adapter whose ΔW is measured, such as that of full fine-tuning.
    pub full: PathBuf,
    /// What and where to write.
    #[command(flatten)]
    pub output: Output,
}

/// Adapters.
#[derive(Debug, clap::Args)]
pub(crate) struct Adapters {
    /// Runs' folders, their adapter.safetensors, or folders that PEFT wrote.
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// The base of PEFT adapters, by its name in `lora-lab list models`.
    #[arg(long, value_name = "MODEL")]
    pub base: Option<String>,
    /// What and where to write.
    #[command(flatten)]
    pub output: Output,
}

/// Where a table goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Output {
    /// A file, whole or not at all; standard output without it.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How to write it.
    #[arg(long, default_value = "csv")]
    pub format: TableFormat,
    /// Maps whose name matches this regular expression, e.g. `query$`.
    #[arg(long, value_name = "REGEX")]
    pub maps: Option<String>,
}

/// Formats of a measured table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// One line per row, with a header.
    Csv,
    /// An array of objects.
    Json,
}

/// Whose directions are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SideName {
    /// The factor on the inputs, the paper's A.
    A,
    /// The factor on the outputs, the paper's B.
    B,
    /// ΔW in the input space; the same as delta-input.
    Delta,
    /// ΔW in the input space.
    DeltaInput,
    /// ΔW in the output space.
    DeltaOutput,
}

/// `figures`
#[derive(Debug, clap::Args)]
pub(crate) struct Figures {
    /// Experiments; all that have results by default.
    pub experiments: Vec<PathBuf>,
    /// Overrides that the run was made with.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "experiments")]
    pub set: Vec<String>,
}

/// `claims`
#[derive(Debug, clap::Args)]
pub(crate) struct Claims {
    /// How to print the table; it is also written to results/paper.
    #[arg(long, default_value = "text")]
    pub format: Format,
}

/// `pretrain`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab pretrain --out my_base --steps 200 --batch 32                    minutes on a CPU, for a look
  lora-lab pretrain --device tch:cuda:0                                     the embedded base, in place; rebuild afterwards")]
pub(crate) struct Pretrain {
    /// Folder for config.json, tokenizer.json, model.safetensors and CARD.md.
    #[arg(long, default_value = "crates/models/assets/mini_roberta")]
    pub out: PathBuf,
    /// Seed of weights, text and masks.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Optimizer steps.
    #[arg(long, default_value_t = 7407)]
    pub steps: u64,
    /// Documents per step.
    #[arg(long, default_value_t = 512)]
    pub batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 2e-3)]
    pub learning_rate: f64,
    /// Device.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

/// Reads the command line; `--help` and mistakes end the process as clap does.
pub(crate) fn parse() -> Args {
    Args::parse()
}
