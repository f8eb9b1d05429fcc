//! What can go wrong between a checked experiment and its records.

use std::path::PathBuf;

use assets::error::AssetError;
use thiserror::Error;

/// Why a study stops.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A record cannot be written or read.
    #[error(transparent)]
    Record(#[from] record::RecordError),
    /// An adapter does not fit the base.
    #[error(transparent)]
    Attach(#[from] variants::error::AttachError),
    /// A file or device cannot be used.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// Nothing at a path is an adapter.
    #[error(
        "{}: no adapter here; give a run's folder (with adapter.safetensors), such a file, or a PEFT folder (with \
         adapter_config.json)",
        path.display()
    )]
    NoAdapter {
        /// As given.
        path: PathBuf,
    },
    /// A variant that was checked before is not valid.
    #[error("variant of `{cell}`: {problems}")]
    Variant {
        /// The cell.
        cell: String,
        /// Every broken rule.
        problems: String,
    },
    /// The statistics of training batches that first values need cannot be taken.
    #[error("calibration: {reason}")]
    Uncalibrated {
        /// What is missing, and the way out.
        reason: String,
    },
    /// A loss or gradient is not finite.
    #[error("step {step}: {reason}; use a smaller learning rate")]
    Diverged {
        /// The step.
        step: u64,
        /// Loss and gradient norm.
        reason: String,
    },
    /// A tensor that no run may write has other values than before.
    #[error(
        "`{name}` of the frozen base changed during training: its runs are worth nothing, are not recorded and restart from step 0; this \
         is a fault of the program or of the machine's memory: run again, and report it if it comes back"
    )]
    BaseChanged {
        /// The tensor.
        name: String,
    },
    /// No setting of a group trained with every tuning seed.
    #[error(
        "tune: none of the {settings} settings of {group} that got all steps trained to its end with every tuning seed, so none can be chosen; the \
         records under `tune/runs` say why each failed; give other values in `tune.space`, or fewer rungs where `tune.halving` dropped others"
    )]
    Untunable {
        /// Whose settings.
        group: String,
        /// How many were tried.
        settings: usize,
    },
    /// Finished runs would be trained again under the same name as something else.
    #[error(
        "{}: the records of {cells} cells were made of something else than this run would train (first {first}: {what}), and this run \
         would replace them\n\nhint: `--set name=NEW` keeps both, `--force` replaces them",
        path.display()
    )]
    WouldReplace {
        /// The folder of the records.
        path: PathBuf,
        /// How many cells.
        cells: usize,
        /// The first of them.
        first: String,
        /// What of it is another.
        what: String,
    },
    /// Another process works on the study, with other recipes, code or devices.
    #[error(
        "{}: {holder} trains this study {what}; processes that share a study have one experiment, one build and one kind of device\n\nhint: wait \
         for it or stop it, or give this one a name of its own (`--set name=NEW`)",
        path.display()
    )]
    OtherWork {
        /// The study's folder.
        path: PathBuf,
        /// Who it is.
        holder: String,
        /// How it differs.
        what: String,
    },
    /// The user asked to stop; everything is saved.
    #[error("interrupted; the same command continues where it stopped")]
    Interrupted,
}

impl TrainError {
    /// A file cannot be read or written.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        AssetError::Io { path: path.into(), source }.into()
    }

    /// A file of this program is not what this program wrote.
    pub fn damaged(path: impl Into<PathBuf>, reason: String) -> Self {
        AssetError::Damaged { path: path.into(), reason }.into()
    }

    /// A file of another program cannot be used.
    pub fn foreign(path: impl Into<PathBuf>, reason: String) -> Self {
        AssetError::Foreign { path: path.into(), reason }.into()
    }
}

impl From<models::error::ModelError> for TrainError {
    fn from(error: models::error::ModelError) -> Self {
        AssetError::from(error).into()
    }
}

impl From<data::error::DataError> for TrainError {
    fn from(error: data::error::DataError) -> Self {
        AssetError::from(error).into()
    }
}
