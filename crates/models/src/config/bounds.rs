//! Sizes that config.json may name: what is beyond them is no model, and no list is made of it.

use crate::error::ModelError;

/// Most layers.
pub(crate) const LAYERS: usize = 10_000;
/// Most heads of a layer.
pub(crate) const HEADS: usize = 1 << 16;
/// Widest vector.
pub(crate) const WIDTH: usize = 1 << 24;
/// Most rows of a table. With [`WIDTH`] the number of a table's bytes fits 64 bits.
pub(crate) const ROWS: usize = 1 << 28;

/// Refuses what is 0 or too large.
pub(crate) fn sizes<const N: usize>(fields: [(&str, usize, usize); N]) -> Result<(), ModelError> {
    let wrong: Vec<String> = fields
        .into_iter()
        .filter(|(_, value, most)| !(1..=*most).contains(value))
        .map(|(name, value, most)| format!("{name} is `{value}`, but must be 1 to {most}"))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(ModelError::Config(wrong.join("; "))) }
}

/// Refuses shares that are not in `[0, 1)`.
pub(crate) fn shares<const N: usize>(fields: [(&str, f64); N]) -> Result<(), ModelError> {
    numbers(fields, |value| (0.0..1.0).contains(&value), "at least 0 and less than 1")
}

/// Refuses numbers that are not finite and above 0.
pub(crate) fn positive<const N: usize>(fields: [(&str, f64); N]) -> Result<(), ModelError> {
    numbers(fields, |value| value.is_finite() && value > 0.0, "finite and above 0")
}

/// Refuses numbers that are not finite or below 0.
pub(crate) fn not_negative<const N: usize>(fields: [(&str, f64); N]) -> Result<(), ModelError> {
    numbers(fields, |value| value.is_finite() && value >= 0.0, "finite and at least 0")
}

fn numbers<const N: usize>(fields: [(&str, f64); N], holds: fn(f64) -> bool, rule: &str) -> Result<(), ModelError> {
    let wrong: Vec<String> = fields
        .into_iter()
        .filter(|(_, value)| !holds(*value))
        .map(|(name, value)| format!("{name} is `{value}`, but must be {rule}"))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(ModelError::Config(wrong.join("; "))) }
}
