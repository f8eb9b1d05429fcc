//! Records of finished runs: their types, and where they are on disk.
//!
//! A [`RunRecord`] holds everything a table, a figure or a sceptical reader needs: the resolved spec and its hash, seeds, code
//! identity, every step's loss, every evaluation and what was measured. A [`Store`] keeps the records of one experiment under
//! `results/<experiment>/runs/<slug>/record.json`; a [`Journal`] keeps the log of an unfinished run. A [`Contrast`] is a
//! comparison that an experiment asks for.
//!
//! **Architecture invariant.** This crate links no tensor library and knows no method: a record is data, so that whatever reads
//! records compiles in seconds. A file under `runs/` is either absent or complete; a torn file can only be under `.partial/`.
//!
//! ```
//! use record::{CellId, spec_hash};
//!
//! let cell = CellId { task: "cola".into(), variant: "lora".into(), rank: 8, seed: 1 };
//! assert_eq!(cell.slug(), "cola-lora-r8-s1");
//! assert_eq!(spec_hash(&serde_json::json!({"a": 1, "b": 2})), spec_hash(&serde_json::json!({"b": 2, "a": 1})));
//! ```

#![warn(missing_docs)]

mod atomic;
mod cell;
mod code;
mod contrast;
mod correct;
mod error;
mod evaluation;
mod file;
mod halving;
mod hash;
mod journal;
mod layout;
mod lease;
mod lock;
mod matching;
mod number;
mod place;
pub mod regular;
mod run;
mod steps;
mod store;
mod temporary;
mod tuned;

pub use atomic::{create_directory, write_atomic, write_through};
pub use cell::{CellId, Readout};
pub use code::{code_hash, code_hash_of_files, code_hash_of_listing, is_code_path};
pub use contrast::Contrast;
pub use correct::Correct;
pub use error::{BadFile, RecordError};
pub use evaluation::{Evaluation, Generated};
pub use halving::Halving;
pub use hash::{PartsHash, canonical_json, file_sha256, seedless, seedless_spec_hash, sha256_hex, spec_hash};
pub use journal::{Entry, Journal, JournalMark};
pub use lease::{Asked, Holder, Lease, Leases, holders};
pub use lock::Lock;
pub use matching::{Matching, Quantity};
pub use place::runs_around;
pub use run::{
    Best, CodeIdentity, Cohort, CohortChange, EarlierTask, FORMAT, Forgetting, Goal, Measured, MemoryUse,
    PrimaryMetric, Routing, RunRecord, Start, Status, Truncated,
};
pub use steps::{StepEntry, StepLog};
pub use store::{ADAPTER, PATIENCE, Store, WORKER, adapter_file, record_beside};
pub use temporary::{is_left_behind, process_mark};
pub use tuned::{End, Setting, Source, Trial, Tuned, TunedGroup, TuningGroup, mean_over_seeds};
