//! The forms in which `ΔW` reaches the rows of a map.
//!
//! A delta says what `ΔW` is in the cheapest form through which rows can pass. All forms have a dense one, so that every delta meets every
//! combination, and the forward pass of each is `x·W0 + x̃·ΔW`:
//!
//! | form | `ΔW` | what a row costs beside the base's product |
//! |---|---|---|
//! | [`LowRank`](Form::LowRank) | `down·diag(middle)·up` | `k·(d_in + d_out)` |
//! | [`Dense`](Form::Dense) | a matrix | nothing in full precision, where `x·(W0 + ΔW)` is one product; else `d_in·d_out` |
//! | [`Input`](Form::Input) | `s·(M·W0·diag(g) − W0)`, a map `M` of the input, with a gain `g` or without | what `M` costs; with a gain a second product with the base |
//! | [`Output`](Form::Output) | `s·(W0·diag(g) − W0)` | `d_out` |
//! | [`Routed`](Form::Routed) | none: every row mixes those of several experts | what the experts cost, and `d_in` for each |
//!
//! Where a run has many rows, an update whose factors have as many numbers as the weight, and a chain of block-diagonal maps, are formed and pass
//! as a matrix ([`Form::is_better_formed`]).
//!
//! `x̃` is the input after dropout. The scale `s` comes with the pass's gate; it is 1 in the papers of the last two.

use burn::tensor::{DType, Tensor, activation::softmax};

use crate::host::{cast, identity, wide};

/// A low-rank `ΔW` as two factors, gate folded in.
#[derive(Clone, Debug)]
pub struct Factors {
    /// `[runs, d_in, k]`
    pub down: Tensor<3>,
    /// `[runs, k, d_out]`
    pub up: Tensor<3>,
}

impl Factors {
    /// A matrix, `[runs, d_in, d_out]`, as its product with the identity on the narrower side.
    pub fn of_matrix(matrix: Tensor<3>) -> Self {
        let [runs, d_in, d_out] = matrix.dims();
        let one = identity(d_in.min(d_out), &matrix).repeat_dim(0, runs);
        if d_in <= d_out { Self { down: one, up: matrix } } else { Self { down: matrix, up: one } }
    }

    /// The same in another precision, by casts that differentiate.
    #[must_use]
    pub fn cast(&self, dtype: DType) -> Self {
        Self { down: cast(&self.down, dtype), up: cast(&self.up, dtype) }
    }

    /// `ΔW = down · up`, `[runs, d_in, d_out]`.
    pub fn product(self) -> Tensor<3> {
        self.down.matmul(self.up)
    }
}

/// `ΔW = down · diag(middle) · up`, in the order in which rows pass through it.
#[derive(Clone, Debug)]
pub struct Chain {
    /// `[runs, d_in, k]`
    pub down: Tensor<3>,
    /// The gate, and a diagonal where the form has one, `[runs, 1, k]`.
    pub middle: Tensor<3>,
    /// `[runs, k, d_out]`
    pub up: Tensor<3>,
}

impl Chain {
    /// Factors for the forward pass of rows. The middle is folded into `up`, whose `[k, d_out]` has fewer numbers than the rows' `[n, k]`.
    pub fn row_factors(self) -> Factors {
        Factors { down: self.down, up: self.up * self.middle.swap_dims(1, 2) }
    }

    /// Factors with the middle folded into `down`.
    pub fn factors(self) -> Factors {
        Factors { down: self.down * self.middle, up: self.up }
    }

    /// What every component contributes to the size of the update, `‖m_k·d_k·u_k‖_F/(‖ΔW‖_F + 1e-8)`, `[runs, k]`.
    ///
    /// With the Gram matrices `D = downᵀ·down` and `U = up·upᵀ`, `‖ΔW‖² = mᵀ·(D∘U)·m`, and a component's square is the diagonal of that
    /// sum: no dense update is formed. Where components cancel each other, contributions exceed 1.
    pub fn contributions(&self) -> Tensor<2> {
        let down = self.down.clone().swap_dims(1, 2).matmul(self.down.clone()); // [runs, k, k]
        let up = self.up.clone().matmul(self.up.clone().swap_dims(1, 2));
        let terms = down * up * self.middle.clone() * self.middle.clone().swap_dims(1, 2);
        let [runs, k, _] = terms.dims();
        let own = (terms.clone() * identity(k, &terms)).sum_dim(2).sqrt().reshape([runs, k]);
        // A sum that is 0 comes out on either side of it.
        let whole = terms.reshape([runs, k * k]).sum_dim(1).clamp_min(0.0).sqrt();
        own / (whole + 1e-8)
    }
}

/// A map of the input, `x ↦ x·M`, that costs less than a dense product.
#[derive(Clone, Debug)]
pub enum InputMap {
    /// `M = diag(g)`, `g` `[runs, 1, d_in]`.
    Gain(Tensor<3>),
    /// A product of block-diagonal maps, in the order in which rows pass through them.
    Blocks(Vec<Blocks>),
}

/// `Π·B·Πᵀ` with `B` block-diagonal and a permutation `Π` of the coordinates.
#[derive(Clone, Debug)]
pub struct Blocks {
    /// The blocks, `[runs, groups, b, b]`: block `i` maps coordinates `i·b..(i+1)·b` after the permutation.
    pub blocks: Tensor<4>,
    /// `Π`: coordinates laid out as `[d_in/(p·q·w), p, q, w]` come to `[d_in/(p·q·w), q, p, w]`; none where they stay.
    pub swap: Option<[usize; 3]>,
}

impl Blocks {
    /// `x·M` of rows `[runs, n, d_in]`.
    fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        let [runs, n, d] = x.dims();
        let [_, groups, b, _] = self.blocks.dims();
        let swapped = |x: Tensor<4>, [p, q, w]: [usize; 3]| {
            x.reshape([runs * n * d / (p * q * w), p, q, w]).swap_dims(1, 2).reshape([runs, n, groups, b])
        };
        let x = x.reshape([runs, n, groups, b]);
        let x = match self.swap {
            Some(swap) => swapped(x, swap),
            None => x,
        };
        let x = x.swap_dims(1, 2).matmul(self.blocks.clone()).swap_dims(1, 2); // of [runs, groups, n, b]
        let x = match self.swap {
            Some([p, q, w]) => swapped(x, [q, p, w]),
            None => x,
        };
        x.reshape([runs, n, d])
    }
}

impl InputMap {
    /// `x·M` of rows `[runs, n, d_in]`, in their precision.
    pub fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        x.clone() + self.change(x)
    }

    /// `x·M − x` of rows `[runs, n, d_in]`, in their precision. The difference from the identity is taken in the precision that the map
    /// trains in: a gain of 1.003 cast to bf16 would be 1.
    pub fn change(&self, x: Tensor<3>) -> Tensor<3> {
        let dtype = x.dtype();
        match self {
            Self::Gain(gain) => x * cast(&(gain.clone() - 1.0), dtype),
            Self::Blocks(stages) => {
                let of_stage = |stage: &Blocks, x: Tensor<3>| {
                    let [_, _, b, _] = stage.blocks.dims();
                    let change = stage.blocks.clone() - identity(b, &stage.blocks).unsqueeze::<4>();
                    Blocks { blocks: cast(&change, dtype), swap: stage.swap }.apply(x)
                };
                let add = |change: Option<Tensor<3>>, stage: &Blocks| {
                    Some(match change {
                        None => of_stage(stage, x.clone()),
                        Some(change) => change.clone() + of_stage(stage, x.clone() + change),
                    })
                };
                stages.iter().fold(None, add).unwrap_or_else(|| x.zeros_like())
            }
        }
    }

    fn dtype(&self) -> DType {
        match self {
            Self::Gain(gain) => gain.dtype(),
            Self::Blocks(stages) => stages.first().map_or(DType::F32, |stage| stage.blocks.dtype()),
        }
    }

    fn runs(&self) -> usize {
        match self {
            Self::Gain(gain) => gain.dims()[0],
            Self::Blocks(stages) => stages.first().map_or(1, |stage| stage.blocks.dims()[0]),
        }
    }

    /// `M·W0`, `[runs, d_in, d_out]`, in the precision that the map trains in.
    fn of_base(&self, base: &Tensor<2>) -> Tensor<3> {
        let dtype = self.dtype();
        match self {
            Self::Gain(gain) => cast(base, dtype).unsqueeze::<3>() * gain.clone().swap_dims(1, 2),
            Self::Blocks(stages) => {
                // (W0ᵀ·Mᵀ)ᵀ: the columns of the base are rows that pass the transposed blocks, the last stage first.
                let columns = cast(base, dtype).transpose().unsqueeze::<3>().repeat_dim(0, self.runs()); // [runs, d_out, d_in]
                let transposed =
                    |stage: &Blocks| Blocks { blocks: stage.blocks.clone().swap_dims(2, 3), swap: stage.swap };
                stages.iter().rev().fold(columns, |rows, stage| transposed(stage).apply(rows)).swap_dims(1, 2)
            }
        }
    }
}

/// `ΔW` of one map, in the cheapest form through which rows can pass, with the gate of a pass in it.
#[derive(Clone, Debug)]
pub enum Form {
    /// Two thin factors with a diagonal between them.
    LowRank(Chain),
    /// The matrix, `[runs, d_in, d_out]`.
    Dense(Tensor<3>),
    /// `s·(M·W0·diag(g) − W0)`: rows pass a map of the input before the base.
    Input {
        /// The map `M`.
        map: InputMap,
        /// `g`, `[runs, 1, d_out]`; 1 where there is none.
        gain: Option<Tensor<3>>,
        /// `s`, `[runs, 1, 1]`.
        scale: Tensor<3>,
    },
    /// `s·(W0·diag(g) − W0)`: the base's outputs are multiplied.
    Output {
        /// `s·(g − 1)`, `[runs, 1, d_out]`.
        gain: Tensor<3>,
    },
    /// Every row mixes the updates of several experts by weights of its own. There is no `ΔW`, and so no dense weight:
    /// [`Mergeable`](crate::capability::Capability::Mergeable) says which deltas have one.
    Routed(Routed),
}

/// Several updates, and the router that weighs them for every row: `x ↦ Σᵢ ωᵢ·x̃·ΔWᵢ` with `ω = softmax(x·R)`, or `ω = softmax(x̃·W0·R)` where the
/// experts are gains: their router sees what they multiply.
#[derive(Clone, Debug)]
pub struct Routed {
    /// `R`, `[runs, d_in, experts]`; `[runs, d_out, experts]` of gains.
    pub router: Tensor<3>,
    /// The updates.
    pub experts: Experts,
}

/// The updates that a router weighs.
#[derive(Clone, Debug)]
pub enum Experts {
    /// `ΔWᵢ = downᵢ·upᵢ`.
    LowRank {
        /// `[runs, d_in, k]` where one serves all experts, else `[runs, d_in, experts·k]`, concatenated.
        down: Tensor<3>,
        /// `[runs, experts·k, d_out]`, below one another, the gate in it.
        up: Tensor<3>,
    },
    /// `ΔWᵢ = s·(W0·diag(gᵢ) − W0)`: `s·(g − 1)`, `[runs, experts, d_out]`.
    Gains(Tensor<3>),
}

impl Routed {
    /// What every row weighs the experts by, `[runs, n, experts]`, of rows that the router sees; in the precision that the router trains in.
    pub fn weights(&self, x: &Tensor<3>) -> Tensor<3> {
        softmax(cast(&x.clone().matmul(cast(&self.router, x.dtype())), self.router.dtype()), 2)
    }

    /// The experts' updates one by one.
    pub fn one_by_one(&self) -> Vec<Form> {
        let [runs, d_in, experts] = self.router.dims();
        let part = |expert: usize| match &self.experts {
            Experts::LowRank { down, up } => {
                let ([_, rows, d_out], [_, _, columns]) = (up.dims(), down.dims());
                let k = rows / experts;
                let start = if columns == k { 0 } else { expert * k };
                Form::LowRank(Chain {
                    down: down.clone().slice([0..runs, 0..d_in, start..start + k]),
                    middle: up.clone().slice([0..runs, 0..k, 0..1]).swap_dims(1, 2).ones_like(),
                    up: up.clone().slice([0..runs, expert * k..(expert + 1) * k, 0..d_out]),
                })
            }
            Experts::Gains(gains) => Form::Output { gain: gains.clone().narrow(1, expert, 1) },
        };
        (0..experts).map(part).collect()
    }
}

/// What rows `[runs, n, k or experts·k]` bring to the experts' up-projections, each weighed by the row's `weights` `[runs, n, experts]`:
/// `[runs, n, experts·k]`.
pub(crate) fn weighed(hidden: Tensor<3>, weights: Tensor<3>, k: usize) -> Tensor<3> {
    let ([runs, n, columns], [_, _, experts]) = (hidden.dims(), weights.dims());
    let hidden = hidden.reshape([runs, n, columns / k, k]) * weights.reshape([runs, n, experts, 1]);
    hidden.reshape([runs, n, experts * k])
}

/// Rows of a run, for each output of a map, from which on what depends on the rows alone is dearer than what depends on the weight.
const MANY: usize = 4;

/// Whether `rows` rows of a run better pass through a formed `ΔW` of `k` components than through its factors, which have as many numbers as the
/// matrix then: in full precision the base's product takes it along, and the rows' own multiplications fall to a third or less; in a lower one, which
/// keeps `ΔW` apart from `W0`, they are as many or fewer. Forming it costs `3·d_in·k·d_out` a step besides.
pub(crate) fn is_wide(k: usize, [d_in, d_out]: [usize; 2], rows: usize) -> bool {
    k * (d_in + d_out) >= d_in * d_out && rows >= MANY * d_out
}

impl From<Chain> for Form {
    fn from(chain: Chain) -> Self {
        Self::LowRank(chain)
    }
}

impl Form {
    /// `ΔW`, `[runs, d_in, d_out]`, in the precision that it trains in; `base` is `W0` `[d_in, d_out]`.
    pub fn dense(self, base: &Tensor<2>) -> Tensor<3> {
        match self {
            Self::LowRank(chain) => chain.factors().product(),
            Self::Dense(change) => change,
            Self::Input { map, gain, scale } => {
                let moved = map.of_base(base);
                let moved = match gain {
                    Some(gain) => moved * gain,
                    None => moved,
                };
                let start = cast(base, moved.dtype()).unsqueeze::<3>();
                (moved - start) * scale
            }
            Self::Output { gain } => cast(base, gain.dtype()).unsqueeze::<3>() * gain,
            Self::Routed(_) => unreachable!("whoever needs a dense weight asks whether there is one"),
        }
    }

    /// Runs of the stack.
    pub fn runs(&self) -> usize {
        match self {
            Self::LowRank(chain) => chain.down.dims()[0],
            Self::Dense(change) => change.dims()[0],
            Self::Input { scale, .. } => scale.dims()[0],
            Self::Output { gain } => gain.dims()[0],
            Self::Routed(routed) => routed.router.dims()[0],
        }
    }

    /// Components of a low-rank update.
    pub fn components(&self) -> Option<usize> {
        match self {
            Self::LowRank(chain) => Some(chain.down.dims()[2]),
            _ => None,
        }
    }

    /// Whether `ΔW` is formed although `rows` rows of each run could pass without it. `shape` is `[d_in, d_out]`.
    pub(crate) fn is_better_formed(&self, shape: [usize; 2], rows: usize) -> bool {
        match self {
            Self::LowRank(chain) => is_wide(chain.down.dims()[2], shape, rows),
            // A chain of small blocks moves every number several times, and many rows have more of them than the weight.
            Self::Input { map: InputMap::Blocks(stages), .. } => stages.len() > 1 && rows >= MANY * shape[1],
            Self::Input { .. } | Self::Dense(_) | Self::Output { .. } | Self::Routed(_) => false,
        }
    }

    /// The precision that it trains in.
    pub fn dtype(&self) -> DType {
        match self {
            Self::LowRank(chain) => chain.down.dtype(),
            Self::Dense(change) => change.dtype(),
            Self::Input { scale, .. } => scale.dtype(),
            Self::Output { gain } => gain.dtype(),
            Self::Routed(routed) => routed.router.dtype(),
        }
    }

    /// `‖W0 + ΔW‖²` of each column from values alone, `[runs, 1, d_out]`, through the dense matrix.
    pub fn column_squares(self, base: &Tensor<2>) -> Tensor<3> {
        let sum = wide(self.dense(base).without_autodiff());
        (cast(base, sum.dtype()).unsqueeze::<3>() + sum).square().sum_dim(1)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{
        host::{Placement, values},
        stream::{self, Stream},
    };

    fn place() -> Placement {
        Placement::new(&Device::flex(), DType::F64)
    }

    fn drawn<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
        let n = shape.iter().product();
        place().tensor(stream::normal(&mut stream::generator(5, Stream::Data, name), n, 1.0), shape)
    }

    /// Contributions from Gram matrices, against the norms of dense products; of an update of zeros all are 0.
    #[test]
    fn contributions_are_those_of_the_dense_components() {
        let chain =
            Chain { down: drawn("down", [2, 7, 3]), middle: drawn("middle", [2, 1, 3]), up: drawn("up", [2, 3, 5]) };
        let [down, middle, up] = [&chain.down, &chain.middle, &chain.up].map(values);
        let mut wanted = Vec::new();
        for run in 0..2 {
            let entry = |k: usize, i: usize, j: usize| {
                down[(run * 7 + i) * 3 + k] * middle[run * 3 + k] * up[(run * 3 + k) * 5 + j]
            };
            let norm = |components: &[usize]| {
                let at = |i, j| components.iter().map(|k| entry(*k, i, j)).sum::<f64>();
                (0..7).flat_map(|i| (0..5).map(move |j| (i, j))).map(|(i, j)| at(i, j) * at(i, j)).sum::<f64>().sqrt()
            };
            wanted.extend((0..3).map(|k| norm(&[k]) / (norm(&[0, 1, 2]) + 1e-8)));
        }
        let found = values(&chain.contributions());
        let error = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(error < 1e-12, "{found:?} is not {wanted:?}"); // f64, sums of 35 products
        let none = Chain { middle: chain.middle.zeros_like(), ..chain };
        assert_eq!(values(&none.contributions()), [0.0; 6]);
    }

    /// Rows through a permuted block-diagonal map, against the matrix `Π·B·Πᵀ` written out by hand.
    #[test]
    fn blocks_map_the_coordinates_that_the_swap_brings_together() {
        let blocks = drawn("blocks", [2, 3, 2, 2]);
        let place_of = [0, 2, 4, 1, 3, 5]; // two rows of three become three rows of two
        let map = InputMap::Blocks(vec![Blocks { blocks: blocks.clone(), swap: Some([2, 3, 1]) }]);
        let (x, blocks) = (drawn("x", [2, 3, 6]), values(&blocks));
        let (rows, found) = (values(&x), values(&map.apply(x)));
        for (run, row) in (0..2).flat_map(|run| (0..3).map(move |row| (run, row))) {
            let x = &rows[(run * 3 + row) * 6..][..6];
            let mut wanted = [0.0; 6];
            for (from, to) in (0..6).flat_map(|from| (0..6).map(move |to| (from, to))) {
                // Places of the two coordinates; only those of one block touch.
                let (i, j) = (place_of[from], place_of[to]);
                if i / 2 == j / 2 {
                    wanted[to] += x[from] * blocks[run * 12 + i / 2 * 4 + i % 2 * 2 + j % 2];
                }
            }
            for (found, wanted) in found[(run * 3 + row) * 6..][..6].iter().zip(wanted) {
                assert!((found - wanted).abs() < 1e-14, "{found} is not {wanted}"); // two products of numbers near 1
            }
        }
    }

    /// `ΔW` of a map of the input is what the map does to the rows of the identity, times the scale.
    #[test]
    fn the_dense_form_of_an_input_map_is_the_change_of_the_base() {
        let (base, gain) = (drawn("base", [4, 3]), drawn("gain", [2, 1, 4]));
        let scale = place().tensor(vec![1.0, -0.5], [2, 1, 1]);
        let form = Form::Input { map: InputMap::Gain(gain.clone()), gain: None, scale: scale.clone() };
        let wanted = (gain - 1.0).swap_dims(1, 2) * base.clone().unsqueeze::<3>() * scale;
        for (found, wanted) in values(&form.dense(&base)).into_iter().zip(values(&wanted)) {
            assert!((found - wanted).abs() < 1e-14, "{found} is not {wanted}");
        }
    }

    /// Gains and rotations so near to 1 that bf16 rounds them to it move rows of bf16 by what they should.
    #[test]
    fn a_small_map_moves_rows_of_eight_bits() {
        let x = cast(&drawn("x", [1, 3, 4]), DType::BF16);
        let near = |name, shape: [usize; 3]| drawn(name, shape) * 0.001;
        let blocks = (near("blocks", [2, 2, 2]) + identity(2, &drawn("like", [1]))).unsqueeze::<4>();
        let gain = near("gain", [1, 1, 4]) + 1.0;
        for map in [InputMap::Gain(gain), InputMap::Blocks(vec![Blocks { blocks, swap: None }])] {
            let wanted = values(&map.change(cast(&x, DType::F64)));
            let found = values(&map.change(x.clone()));
            let error = found.iter().zip(&wanted).map(|(found, wanted)| (found - wanted).powi(2)).sum::<f64>();
            let size = wanted.iter().map(|wanted| wanted * wanted).sum::<f64>();
            // Roundings of the map's change and of the product to eight bits, of 2⁻⁹ each.
            assert!(size > 1e-7 && error.sqrt() < 0.006 * size.sqrt(), "{} of {}", error.sqrt(), size.sqrt());
        }
    }

    #[test]
    fn column_squares_are_those_of_the_sum() {
        let (base, change) = (drawn("base", [4, 3]), drawn("change", [2, 4, 3]));
        let wanted = values(&(base.clone().unsqueeze::<3>() + change.clone()));
        let found = values(&Form::Dense(change).column_squares(&base));
        for (at, found) in found.iter().enumerate() {
            let (run, column) = (at / 3, at % 3);
            let wanted: f64 = (0..4).map(|row| wanted[run * 12 + row * 3 + column].powi(2)).sum();
            assert!((found - wanted).abs() < 1e-13, "{found} is not {wanted}");
        }
    }
}
