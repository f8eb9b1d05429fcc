//! The names of runs: one cell of the grid, and one way of reading it out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hash::sha256_hex;

/// Longest part of a slug taken from a name; most file systems stop at 255 bytes for the whole.
const LONGEST_NAME: usize = 80;

/// One cell of the grid variants x tasks x ranks x seeds: one run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellId {
    /// The task's name.
    pub task: String,
    /// The variant's label in the experiment.
    pub variant: String,
    /// The rank as written in the spec; 0 for methods that have none.
    pub rank: usize,
    /// The run's seed, from which its four streams are derived.
    pub seed: u64,
}

impl CellId {
    /// The cell's directory name, such as `cola-lora-r8-s1`: safe in a path, and different for different cells.
    ///
    /// Letters, digits, `_`, `.`, `+`, `=` stand for themselves, and so does `-` in a variant. Any other character, `-` in a task
    /// (it would hide where the variant begins) and an overlong name are replaced, and a hash of the cell is appended.
    pub fn slug(&self) -> String {
        let task = path_safe(&self.task, false);
        let variant = path_safe(&self.variant, true);
        let plain = format!("{task}-{variant}-r{}-s{}", self.rank, self.seed);
        if task == self.task && variant == self.variant {
            return plain;
        }
        // `-s<digits>` ends a plain slug and `s` is no hexadecimal digit, so the two kinds cannot meet.
        let hash = sha256_hex(format!("{}\0{}", self.task, self.variant).as_bytes());
        format!("{plain}-{}", &hash[..8])
    }
}

/// As messages name a cell: `cola/lora rank 8 seed 1`.
impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, variant, rank, seed } = self;
        if *rank == 0 {
            write!(f, "{task}/{variant} seed {seed}")
        } else {
            write!(f, "{task}/{variant} rank {rank} seed {seed}")
        }
    }
}

/// One way of reading out a trained cell: the row it makes in a table.
///
/// Most cells have one readout, their own label and rank. A DyLoRA cell has one per rank; a LoRA cell truncated after training has
/// further ones, such as `lora_svd` at rank 4.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readout {
    /// The row's variant name in tables.
    pub label: String,
    /// The rank at which the cell was evaluated; 0 for methods that have none.
    pub rank: usize,
}

impl fmt::Display for Readout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rank == 0 { f.write_str(&self.label) } else { write!(f, "{} rank {}", self.label, self.rank) }
    }
}

fn path_safe(name: &str, hyphen: bool) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_.+=".contains(c) || (hyphen && c == '-');
    let mut text: String = name.chars().take(LONGEST_NAME).map(|c| if safe(c) { c } else { '_' }).collect();
    // A leading dot hides the directory, a leading hyphen reads as an option.
    if text.starts_with(['.', '-']) || text.is_empty() {
        text.insert(0, '_');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(task: &str, variant: &str, rank: usize, seed: u64) -> CellId {
        CellId { task: task.into(), variant: variant.into(), rank, seed }
    }

    #[test]
    fn plain_names_are_kept() {
        assert_eq!(cell("cola", "lora", 8, 1).slug(), "cola-lora-r8-s1");
        assert_eq!(cell("sst2", "lora-lr1e-4", 0, u64::MAX).slug(), "sst2-lora-lr1e-4-r0-s18446744073709551615");
    }

    #[test]
    fn other_names_are_made_safe_and_stay_apart() {
        let cells = [
            cell("a-b", "c", 8, 1),
            cell("a", "b-c", 8, 1),
            cell("a/b", "c", 8, 1),
            cell("a_b", "c", 8, 1),
            cell("..", "..", 0, 0),
            cell("", "", 0, 0),
            cell("_", "_", 0, 0),
            cell(&"x".repeat(300), "c", 1, 1),
            cell(&"x".repeat(301), "c", 1, 1),
            cell("größe", "c", 1, 1),
        ];
        let mut slugs: Vec<String> = cells.iter().map(CellId::slug).collect();
        for slug in &slugs {
            assert!(slug.len() < 255 && !slug.starts_with('.') && !slug.contains(['/', '\\']), "{slug}");
        }
        slugs.sort();
        slugs.dedup();
        assert_eq!(slugs.len(), cells.len());
    }

    #[test]
    fn display_leaves_out_a_rank_that_is_not_there() {
        assert_eq!(cell("cola", "lora", 8, 1).to_string(), "cola/lora rank 8 seed 1");
        assert_eq!(cell("cola", "bitfit", 0, 1).to_string(), "cola/bitfit seed 1");
        assert_eq!(Readout { label: "dylora".into(), rank: 3 }.to_string(), "dylora rank 3");
    }
}
