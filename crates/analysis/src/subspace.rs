//! Subspace measures of the LoRA papers: arrays in, numbers out.
//!
//! **Layout.** Maps act on rows, `y = x W` with `W: [d_in, d_out]`, so `ΔW = a·b` with `a: [d_in, r]`, `b: [r, d_out]`, the scale in one of them. The paper
//! writes `h = W x` with `W: [d_out, d_in]` and `ΔW = B A`; its `A: [r, d_in]` is our `aᵀ`, its `B: [d_out, r]` our `bᵀ`. Its right
//! singular vectors live in the input space ([`Side::Input`]), its left ones in the output space ([`Side::Output`]). Section 7.2 of the
//! paper names the right singular vectors of `A`, appendix G the left ones; only the right ones of `A` live in a space that two ranks
//! share, so `A` is compared on the input side and `B` on the output side.
//!
//! | module | measure | source |
//! |---|---|---|
//! | [`factored`] | singular directions of updates, in factors or dense | – |
//! | [`basis`] | singular directions, cuts inside clusters | – |
//! | [`grassmann`] | `φ(i, j)`, principal angles, projection distance | LoRA section 7.2, appendix G |
//! | [`random`] | closed forms, simulated bands, Gaussian subspaces | – |
//! | [`overlap`] | `φ` over all pairs of seeds | LoRA section 7.2, figure 4 |
//! | [`projection`] | `‖UᵀWV‖_F`, amplification | LoRA table 7, appendix H.4 |
//! | [`top`] | leading singular triplets of a dense `W` | Golub and Underwood 1977; Musco and Musco 2015 |
//! | [`spectrum`] | stable and effective rank, energy, intruder dimensions | Roy and Vetterli 2007; Shuttleworth et al. 2024 |
//! | [`decomposition`] | changes of magnitude and direction | DoRA section 3.2 |
//! | [`captured_energy`] | share of an update in the span of a frozen factor | LoRA-FA, VeRA |
//! | [`trajectory`] | norm of an update and its distance to the final one, by checkpoint | – |
//!
//! The heat map of LoRA's appendix H.3 is [`grassmann::phi`] between the leading directions of `W` ([`top::top`]) and those of `ΔW`.
//!
//! **Numerical rank.** Directions exist for singular values above `max(d_in, d_out)·ε` times the scale of the matrix: its largest
//! singular value, or `‖a‖_F·‖b‖_F` for a product, whose rounding errors have that size even where its terms cancel. `φ(i, j)` is
//! defined for `i` and `j` up to that rank. A cut between two singular values closer than a relative 1e-6 ([`basis::CLUSTER`]) is not
//! determined by the matrix: it is flagged, and belongs in no comparison.
//!
//! LoRA: Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022, arXiv:2106.09685.

use lowrank::error::check;

pub mod basis;
pub mod captured_energy;
mod cumulative;
pub mod decomposition;
pub mod factored;
mod frame;
pub mod grassmann;
pub mod overlap;
pub mod parallel;
pub mod projection;
pub mod random;
pub mod spectrum;
pub mod top;
pub mod trajectory;

/// The space in which directions are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// `R^d_in`: the columns of `a`; the paper's right singular vectors of `A` and of `ΔW`.
    Input,
    /// `R^d_out`: the rows of `b`; the paper's left singular vectors of `B` and of `ΔW`.
    Output,
}

/// Why a measure is not defined on what was given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SubspaceError {
    /// What is no update, or has no decomposition.
    #[error(transparent)]
    Update(#[from] lowrank::error::UpdateError),
    /// Two matrices that must have one shape differ.
    #[error(
        "`{name}` is `[{rows}, {cols}]`, but `{other}` is `[{other_rows}, {other_cols}]`; compare an adapter with its own base and map"
    )]
    Shapes {
        /// Which matrix.
        name: &'static str,
        /// Its rows.
        rows: usize,
        /// Its columns.
        cols: usize,
        /// The matrix it must agree with.
        other: &'static str,
        /// Rows of that one.
        other_rows: usize,
        /// Columns of that one.
        other_cols: usize,
    },
    /// Directions of different spaces.
    #[error(
        "the directions live in {first} and {second} dimensions, but only directions of one space can be compared; choose one map and one side"
    )]
    Dimensions {
        /// Dimension of the first space.
        first: usize,
        /// Dimension of the second space.
        second: usize,
    },
    /// A matrix without directions, such as an update whose `b` is still zero.
    #[error(
        "`{name}` has rank 0, so it has no directions; an update with `b` at zero is untrained: take a later checkpoint, or compare `a`"
    )]
    RankZero {
        /// Which matrix.
        name: &'static str,
    },
    /// More directions are asked for than there are.
    #[error("{asked} directions are asked for, but there are {available}; use 1..={available}")]
    TooManyDirections {
        /// How many are asked for.
        asked: usize,
        /// How many there are.
        available: usize,
    },
    /// Columns that should be orthonormal are not.
    #[error(
        "the directions are not orthonormal: `UᵀU` is off the identity by `{deviation}`, but at most `{limit}` is allowed; take them from an SVD or a QR decomposition"
    )]
    NotOrthonormal {
        /// Largest entry of `UᵀU - I`.
        deviation: f64,
        /// The limit.
        limit: f64,
    },
    /// A simulation with too few draws for its quantiles.
    #[error("{found} draws, but a 95% band needs at least {needed}; draw more")]
    Draws {
        /// How many draws are asked for.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// Too few subspaces, checkpoints or points.
    #[error("{found} {what}, but at least {needed} are needed; add some")]
    TooFew {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// A column without direction.
    #[error("column {column} of `{name}` is zero, so it has no direction; leave the map out")]
    ZeroColumn {
        /// Which matrix.
        name: &'static str,
        /// The column, from 0.
        column: usize,
    },
    /// A setting outside its range.
    #[error("`{name}` is `{value}`, but must lie in {range}; choose a value there")]
    Setting {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The range.
        range: &'static str,
    },
}

/// Refuses two shapes that differ.
fn same_shape(
    (name, (rows, cols)): (&'static str, (usize, usize)),
    (other, (other_rows, other_cols)): (&'static str, (usize, usize)),
) -> Result<(), SubspaceError> {
    if (rows, cols) == (other_rows, other_cols) {
        Ok(())
    } else {
        Err(SubspaceError::Shapes { name, rows, cols, other, other_rows, other_cols })
    }
}

#[cfg(test)]
mod tests;
