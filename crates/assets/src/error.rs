//! What can go wrong with a file of a model, a data set or an adapter, and with a device.

use std::path::PathBuf;

use thiserror::Error;

/// Why something that lies outside the program cannot be used.
#[derive(Debug, Error)]
pub enum AssetError {
    /// A model cannot be built.
    #[error(transparent)]
    Model(#[from] models::error::ModelError),
    /// Data cannot be had.
    #[error(transparent)]
    Data(#[from] data::error::DataError),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file of this program is not what this program wrote.
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
    /// A device is not compiled in or not present.
    #[error("device `{name}`: {reason}")]
    Device {
        /// As written.
        name: String,
        /// Why not, and the way out.
        reason: String,
    },
}
