//! What can be wrong with the description of a figure.

/// Every way in which a figure cannot be drawn.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FigureError {
    /// Nothing to draw.
    #[error("{place}: there are no {what}, but a figure shows at least one; leave it out or run the experiment first")]
    Empty {
        /// Where.
        place: String,
        /// What is missing.
        what: &'static str,
    },
    /// Lists that belong together differ in length.
    #[error("{place}: there are {found} {what}, but {expected} are needed; give one per {unit}")]
    Length {
        /// Where.
        place: String,
        /// What was counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
        /// What each belongs to.
        unit: &'static str,
    },
    /// A number that has no place on an axis.
    #[error(
        "{place}: the value is `{value}`, but only finite numbers have a place; leave it out, or mark a cell as undefined"
    )]
    NotFinite {
        /// Where.
        place: String,
        /// The number.
        value: f64,
    },
    /// A number too large to be mapped to the canvas.
    #[error("{place}: the value is `{value:e}`, but numbers up to 1e100 can be drawn; choose another unit")]
    TooLarge {
        /// Where.
        place: String,
        /// The number.
        value: f64,
    },
    /// A number without logarithm.
    #[error(
        "{place}: the value is `{value}`, but a logarithmic axis holds positive numbers; leave it out or use a linear axis"
    )]
    NotPositive {
        /// Where.
        place: String,
        /// The number.
        value: f64,
    },
    /// A number beyond the range that was asked for.
    #[error("{place}: the value is `{value}`, but the range is {low} to {high}; widen the range")]
    Outside {
        /// Where.
        place: String,
        /// The number.
        value: f64,
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// A range that is empty.
    #[error("{place}: the range is {low} to {high}, but its first end must be below its second; swap or widen it")]
    Range {
        /// Where.
        place: String,
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// An interval that does not hold its value.
    #[error(
        "{place}: the interval is {low} to {high}, but must hold its value `{value}`; pass lower and upper end in this order"
    )]
    Interval {
        /// Where.
        place: String,
        /// The value.
        value: f64,
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// A position that names nothing.
    #[error("{place}: the position is `{value}`, but the axis has the positions 0 to {last}; use the index of a name")]
    NoSuchName {
        /// Where.
        place: String,
        /// The position.
        value: f64,
        /// The last index.
        last: usize,
    },
    /// A shade without colour scale.
    #[error("{place}: the point has a shade, but the panel has no colour scale; give the chart a `colour`")]
    NoColourScale {
        /// Where.
        place: String,
    },
    /// Kinds of data and scales that do not go together.
    #[error("{place}: {found}, but {rule}")]
    Scale {
        /// Where.
        place: String,
        /// The scale.
        found: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// A character that the font lacks.
    #[error(
        "{place}: `{text}` holds `{character}`, which the built-in font lacks; write it in Latin, Greek or mathematical signs"
    )]
    Glyph {
        /// Where.
        place: String,
        /// The whole text.
        text: String,
        /// The character.
        character: char,
    },
    /// A figure that does not say how often it was measured.
    #[error(
        "figure.n: it is empty, but every figure says what was repeated and how often; write `n = 1 run` where nothing was"
    )]
    NoCount,
    /// No room for the contents.
    #[error("{place}: {what} need {needed:.0} pt, but there are {room:.0} pt; {way}")]
    NoRoom {
        /// Where.
        place: String,
        /// What does not fit.
        what: &'static str,
        /// Needed space.
        needed: f64,
        /// Space there is.
        room: f64,
        /// The way out.
        way: &'static str,
    },
}
