//! The text of one cell, which all formats share.

use crate::table::{Entry, Estimate};

/// The signs that differ between formats.
pub(super) struct Signs {
    pub(super) plus_minus: &'static str,
    pub(super) missing: &'static str,
    pub(super) dirty: &'static str,
}

/// The text of an entry; `escape` is applied to what a user wrote.
pub(super) fn entry(entry: &Entry, signs: &Signs, escape: fn(&str) -> String) -> String {
    match entry {
        Entry::Text(text) => escape(text),
        Entry::Missing => signs.missing.to_owned(),
        Entry::Estimate(estimate) => words(estimate, signs),
    }
}

fn words(estimate: &Estimate, signs: &Signs) -> String {
    let mut text = if estimate.mean.is_nan() { signs.missing.to_owned() } else { fixed(estimate.mean) };
    if let Some(half_width) = estimate.half_width {
        text = format!("{text} {} {}", signs.plus_minus, fixed(half_width));
    }
    if estimate.dirty {
        text.push_str(signs.dirty);
    }
    if !estimate.remarks.is_empty() {
        text = format!("{text} [{}]", estimate.remarks.join(", "));
    }
    text
}

/// Two decimals, never `-0.00`.
fn fixed(value: f64) -> String {
    let text = format!("{value:.2}");
    if text == "-0.00" { "0.00".to_owned() } else { text }
}
