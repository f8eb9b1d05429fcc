//! What can go wrong between a checked experiment and its records.

use std::path::PathBuf;

use thiserror::Error;

/// Why a study stops.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A model cannot be built.
    #[error(transparent)]
    Model(#[from] models::error::ModelError),
    /// Data cannot be had.
    #[error(transparent)]
    Data(#[from] data::error::DataError),
    /// A record cannot be written or read.
    #[error(transparent)]
    Record(#[from] record::RecordError),
    /// An adapter does not fit the base.
    #[error(transparent)]
    Attach(#[from] variants::error::AttachError),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A checkpoint is not what this program wrote.
    #[error("{}: {reason}; delete the folder it lies in and run again: its runs begin afresh", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of another program cannot be used.
    #[error("{}: {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// Files of the hub cannot be had.
    #[error("{name}: cannot be downloaded: {reason}; {way_out}")]
    Hub {
        /// As written.
        name: String,
        /// What went wrong.
        reason: String,
        /// What to do instead.
        way_out: String,
    },
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
    /// A device is not compiled in or not present.
    #[error("device `{name}`: {reason}")]
    Device {
        /// As written.
        name: String,
        /// Why not, and the way out.
        reason: String,
    },
    /// A variant that was checked before is not valid.
    #[error("variant of `{cell}`: {problems}")]
    Variant {
        /// The cell.
        cell: String,
        /// Every broken rule.
        problems: String,
    },
    /// A loss or gradient is not finite.
    #[error("step {step}: {reason}; use a smaller learning rate")]
    Diverged {
        /// The step.
        step: u64,
        /// Loss and gradient norm.
        reason: String,
    },
    /// The user asked to stop; everything is saved.
    #[error("interrupted; the same command continues where it stopped")]
    Interrupted,
}
