//! The arguments of `analyze` and its subcommands.

use std::path::PathBuf;

use analysis::measures::Directions;
use clap::{Args, Subcommand, ValueEnum};

/// Subcommands of `analyze`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  lora-lab analyze phi RUN_A RUN_B --side delta --out phi.csv      two ranks, seeds, tasks or variants
  lora-lab analyze phi RUN/snapshots/00000050.safetensors RUN      a snapshot against the final adapter
  lora-lab analyze layers RUN --maps 'query$'                      the layers of one adapter
  lora-lab analyze captured-energy LORA_FA_RUN FULL_RUN            what a frozen A could have expressed
  lora-lab analyze spectrum RUN --directions --format json
  lora-lab analyze study lora_subspace                             every table of an experiment

An adapter is a run's folder, its adapter.safetensors, or a folder that PEFT wrote. A and B are the papers' factors of ΔW = B A:
A reads the inputs, B writes the outputs.")]
pub(crate) enum Analyze {
    /// Grassmann similarity φ(i, j) of two adapters, for every map they share; columns `module,i,j,phi`.
    #[command(after_help = "Example:\n  lora-lab analyze phi RUN_A RUN_B --side delta --maps 'query$' --out phi.csv")]
    Phi(Pair),
    /// Principal angles (radians) and projection distance of two adapters; columns `module,k,angle,distance`.
    #[command(after_help = "Example:\n  lora-lab analyze angles RUN_A RUN_B --side b")]
    Angles(Pair),
    /// LoRA's table 7: the norm of W projected onto the directions of ΔW, and the amplification factor.
    #[command(after_help = "Example:\n  lora-lab analyze projection RUN_A RUN_B --out projection.csv")]
    Projection(Adapters),
    /// Heat map of φ(i, j) between W and ΔW (LoRA, appendix H.3), with the mean over random subspaces.
    #[command(alias = "heat", after_help = "Example:\n  lora-lab analyze heatmap RUN --top 64 --maps 'query$'")]
    Heatmap(Heatmap),
    /// Spectrum of ΔW, and intruder dimensions of W + ΔW.
    #[command(
        after_help = "Example:\n  lora-lab analyze spectrum RUN --directions      one row per singular direction"
    )]
    Spectrum(Spectrum),
    /// Overlap between the layers of one adapter; columns `kind,first_layer,second_layer,i,j,phi,random_mean,ambiguous`.
    #[command(after_help = "Example:\n  lora-lab analyze layers RUN --maps 'query$'")]
    Layers(Layers),
    /// Captured energy: the share of the second adapter's ΔW that lies in the span of the first one's A; columns
    /// `module,rank,reach,random_mean`.
    #[command(alias = "reach", after_help = "Example:\n  lora-lab analyze captured-energy LORA_FA_RUN FULL_RUN")]
    CapturedEnergy(CapturedEnergy),
    /// Changes of magnitude and direction (DoRA), and the distance to the final update, over a run's snapshots.
    #[command(alias = "movement", after_help = "Example:\n  lora-lab analyze magnitude-direction RUN --out dora.csv")]
    MagnitudeDirection(Adapters),
    /// Every table of an experiment whose adapters are present, under results/NAME/analysis.
    #[command(after_help = "Example:\n  lora-lab analyze study lora_subspace")]
    Study {
        /// The experiment: a YAML file, or its name under `experiments/`.
        experiment: PathBuf,
        /// The overrides that the experiment was run with.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
}

/// Two adapters.
#[derive(Debug, Args)]
pub(crate) struct Pair {
    /// An adapter.
    pub first: PathBuf,
    /// The adapter it is compared with.
    pub second: PathBuf,
    /// Whose directions are compared: the factor A, the factor B, or ΔW.
    #[arg(long, default_value = "a")]
    pub side: Side,
    #[command(flatten)]
    pub output: Output,
}

/// `analyze heatmap`.
#[derive(Debug, Args)]
pub(crate) struct Heatmap {
    /// The adapter.
    pub adapter: PathBuf,
    /// The base of a PEFT adapter, if not where its configuration says: a folder, `hf://org/name`, or a name of `lora-lab list models`.
    #[arg(long, value_name = "MODEL")]
    pub base: Option<String>,
    /// Number of leading directions of W.
    #[arg(long, default_value_t = 64)]
    pub top: usize,
    /// Compare directions in the output space instead of the input space.
    #[arg(long)]
    pub outputs: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `analyze spectrum`.
#[derive(Debug, Args)]
pub(crate) struct Spectrum {
    #[command(flatten)]
    pub adapters: Adapters,
    /// One row per direction instead of one per map: singular value, share of the energy, cumulative share.
    #[arg(long)]
    pub directions: bool,
}

/// `analyze layers`.
#[derive(Debug, Args)]
pub(crate) struct Layers {
    /// The adapter.
    pub adapter: PathBuf,
    /// Whose directions are compared: the factor A, the factor B, or ΔW.
    #[arg(long, default_value = "a")]
    pub side: Side,
    #[command(flatten)]
    pub output: Output,
}

/// `analyze captured-energy`.
#[derive(Debug, Args)]
pub(crate) struct CapturedEnergy {
    /// The adapter whose A spans the space, such as that of LoRA-FA or VeRA.
    pub factor: PathBuf,
    /// The adapter whose ΔW is measured, such as that of full fine-tuning.
    pub full: PathBuf,
    #[command(flatten)]
    pub output: Output,
}

/// Several adapters.
#[derive(Debug, Args)]
pub(crate) struct Adapters {
    /// The adapters.
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// The base of PEFT adapters, if not where their configurations say: a folder, `hf://org/name`, or a name of `lora-lab list models`.
    #[arg(long, value_name = "MODEL")]
    pub base: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

/// Which maps are measured, and where the table goes.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Write the table to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace a file that is no earlier table of this command.
    #[arg(long, requires = "out")]
    pub force: bool,
    /// Format of the table.
    #[arg(long, default_value = "csv")]
    pub format: TableFormat,
    /// Measure only the maps whose name matches this regular expression, e.g. `query$`.
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
pub(crate) enum Side {
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

impl From<Side> for Directions {
    fn from(side: Side) -> Self {
        match side {
            Side::A => Self::A,
            Side::B => Self::B,
            Side::Delta | Side::DeltaInput => Self::DeltaInput,
            Side::DeltaOutput => Self::DeltaOutput,
        }
    }
}
