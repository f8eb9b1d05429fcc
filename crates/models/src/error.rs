//! What can be wrong with a model.

use thiserror::Error;

/// Why a model cannot be built.
#[derive(Debug, Error)]
pub enum ModelError {
    /// Not a readable safetensors file.
    #[error("weights: not a safetensors file: {0}")]
    NotSafetensors(#[from] safetensors::SafeTensorError),
    /// The configuration does not parse.
    #[error("config.json: {0}")]
    Config(String),
    /// Tensors are missing or have another shape than the configuration says.
    #[error("weights: {} tensors do not fit the configuration:\n  {}", .0.len(), first(.0))]
    Tensors(Vec<String>),
    /// No such model.
    #[error("unknown model `{name}`{}; `lora-lab list models` shows all", nearest.as_ref().map(|n| format!(", did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// The name asked for.
        name: String,
        /// The nearest name.
        nearest: Option<String>,
    },
    /// A target selects nothing.
    #[error("{} of this model; its maps end in {}", missed(patterns), known.join(", "))]
    NoTarget {
        /// The patterns that select nothing, each with the nearest ending.
        patterns: Vec<(String, Option<String>)>,
        /// Last parts of the names there are.
        known: Vec<String>,
    },
    /// A target names a fused map and a part of it.
    #[error("targets name `{whole}` and its part `{part}`, which would adapt the part twice; leave one of them out")]
    Overlap {
        /// The fused map.
        whole: String,
        /// Its part.
        part: String,
    },
    /// A target is not a valid pattern.
    #[error("target {0}")]
    BadPattern(#[from] crate::pattern::BadPattern),
    /// An adapter does not fit.
    #[error(transparent)]
    Attach(#[from] variants::error::AttachError),
}

/// The first of many lines, and how many more there are.
fn first(lines: &[String]) -> String {
    const SHOWN: usize = 40;
    let more = (lines.len() > SHOWN).then(|| format!("and {} more", lines.len() - SHOWN));
    lines.iter().take(SHOWN).cloned().chain(more).collect::<Vec<_>>().join("\n  ")
}

/// `target `x` (did you mean `y`?) selects no linear map`, for all that select nothing.
fn missed(patterns: &[(String, Option<String>)]) -> String {
    let one = |(pattern, nearest): &(String, Option<String>)| match nearest {
        Some(nearest) => format!("`{pattern}` (did you mean `{nearest}`?)"),
        None => format!("`{pattern}`"),
    };
    let all: Vec<String> = patterns.iter().map(one).collect();
    let (targets, select) = if all.len() == 1 { ("target", "selects") } else { ("targets", "select") };
    format!("{targets} {} {select} no linear map", all.join(", "))
}
