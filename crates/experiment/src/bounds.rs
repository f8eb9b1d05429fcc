//! The bounds of an experiment's numbers, all in one place: `check` refuses what no machine could run before a run asks for memory.
//!
//! A bound lies far above what anybody trains with and far below what a machine could hold, so that it stops slips (a zero too many, a
//! rate in place of a count) and no study. Bounds of how texts are generated stand beside their defaults, in
//! [`Decoding`](data::causal::decode::Decoding); a rank, a length and a layer are held against the model as well.

/// Whole numbers from `least` to `most`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole {
    pub(super) least: u64,
    pub(super) most: u64,
}

/// Optimizer steps: ten times those of T5's pretraining.
pub(super) const STEPS: Whole = Whole { least: 1, most: 10_000_000 };
/// Steps between two events of a run. One longer than the run is a way to say never.
pub(super) const INTERVAL: Whole = Whole { least: 1, most: 1_000_000_000_000 };
/// Rows of a micro-batch.
pub(super) const BATCH: Whole = Whole { least: 1, most: 65_536 };
/// Micro-batches of a step.
pub(super) const ACCUMULATE: Whole = Whole { least: 1, most: 65_536 };
/// Rows of a step: `batch · accumulate`.
pub(super) const ROWS_OF_A_STEP: Whole = Whole { least: 1, most: 1_048_576 };
/// Tokens of an input: two special ones frame at least one of text. The model's positions bound it as well.
pub(super) const MAX_LENGTH: Whole = Whole { least: 3, most: 1_048_576 };
/// Rank-one components of an update. The widths of the maps bound them as well.
pub(super) const RANK: Whole = Whole { least: 1, most: 1_048_576 };
/// Runs of a cohort.
pub(super) const COHORT: Whole = Whole { least: 1, most: 65_536 };
/// Numbers that only name something: seeds and layers.
pub(super) const ANY: Whole = Whole { least: 0, most: u64::MAX };

impl Whole {
    /// What `value` must do and does not: `be at least 1`.
    pub(super) fn broken(self, value: u64) -> Option<String> {
        match value {
            _ if value < self.least => Some(format!("be at least {}", self.least)),
            _ if value > self.most => Some(format!("be at most {}", self.most)),
            _ => None,
        }
    }

    /// What a number that is none of these must be: `at most 8`, or `at least 1`.
    pub(super) fn missed_by(self, value: Option<f64>) -> String {
        match value {
            // A number that 64 bits do not hold is one with a fraction by now.
            Some(value) if value >= self.most as f64 => format!("at most {}", self.most),
            _ if self.least == 0 => "0 or more".to_owned(),
            _ => format!("at least {}", self.least),
        }
    }
}

/// The bound of a field of the recipe that takes whole numbers.
pub(super) fn of_recipe(field: &str) -> Option<Whole> {
    Some(match field {
        "steps" => STEPS,
        "batch" => BATCH,
        "accumulate" => ACCUMULATE,
        "max_length" => MAX_LENGTH,
        "patience" | "log_every" | "snapshot_every" | "checkpoint_every" => INTERVAL,
        _ => return None,
    })
}

/// Numbers with a fraction. The trainer computes in single precision, so all of them lie within its range.
#[derive(Clone, Copy, Debug)]
pub(super) enum Real {
    /// Above 0 and at most this.
    Positive(f64),
    /// From 0 to this.
    NotNegative(f64),
    /// In `[0, 1)`.
    Share,
}

/// Passes over the training examples.
pub(super) const EPOCHS: Real = Real::Positive(1e6);
/// A peak learning rate: a step of Adam moves every weight by about that much.
pub(super) const RATE: Real = Real::Positive(1e3);
/// Decoupled weight decay.
pub(super) const DECAY: Real = Real::NotNegative(1e3);
/// Adam's epsilon.
pub(super) const EPSILON: Real = Real::Positive(1.0);
/// Largest gradient norm.
pub(super) const CLIP: Real = Real::Positive(1e30);

impl Real {
    /// What `value` must do and does not.
    pub(super) fn broken(self, value: f64) -> Option<String> {
        let most = match self {
            Self::Share if (0.0..1.0).contains(&value) => return None,
            Self::Share => return Some("lie in [0, 1)".to_owned()),
            Self::Positive(_) if !(value.is_finite() && value > 0.0) => {
                return Some("be finite and above 0".to_owned());
            }
            Self::NotNegative(_) if !(value.is_finite() && value >= 0.0) => {
                return Some("be finite and not negative".to_owned());
            }
            Self::Positive(most) | Self::NotNegative(most) => most,
        };
        let least = f64::from(f32::MIN_POSITIVE);
        match value {
            _ if value > most => Some(format!("be at most {most}")),
            _ if value > 0.0 && value < least => Some(format!("be at least {least:e}, the least of single precision")),
            _ => None,
        }
    }
}

/// What any number of a composition must do and does not: single precision holds it.
pub(super) fn beyond_single(value: f64) -> Option<String> {
    let most = f64::from(f32::MAX);
    (!value.is_finite() || value.abs() > most).then(|| format!("lie within ±{most:e}, the range of single precision"))
}

/// A number in a message, without hundreds of zeros.
pub(super) fn shown(value: f64) -> String {
    let is_plain = value == 0.0 || !value.is_finite() || (1e-5..1e15).contains(&value.abs());
    if is_plain { value.to_string() } else { format!("{value:e}") }
}
