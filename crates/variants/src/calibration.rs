//! Calibration before training: what a start may need to know of the training batches, and how a forward pass shows it.
//!
//! A delta that starts from data says which [`Statistic`] it needs and over how many batches. Whoever trains takes the statistics of the
//! unadapted base over the first batches of a run, in the order in which the run will see them, and hands them to
//! [`attach`](crate::slot::attach) in the plan of the stack. They are needed for first values alone: what a start leaves behind is saved
//! with the adapter, so nothing is calibrated to resume a run or to load an adapter.
//!
//! | statistic | what it is | shape |
//! |---|---|---|
//! | [`SecondMoment`](Statistic::SecondMoment) | `E[xᵀx]` of the rows `x` that reach a map, uncentred | `[d_in, d_in]` |
//! | [`WeightGradient`](Statistic::WeightGradient) | the mean over batches of the gradient of the batch's mean loss in `W0` | `[d_in, d_out]` |

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex},
};

use burn::tensor::{DType, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::{
    error::SpecProblem,
    host::{cast, inner},
};

/// What is taken of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// `E[xᵀx]` of its inputs, `[d_in, d_in]`.
    SecondMoment,
    /// The gradient of the loss in its weight, `[d_in, d_out]`.
    WeightGradient,
}

impl Statistic {
    /// The shape of a statistic of a `[d_in, d_out]` map.
    pub fn shape(self, [d_in, d_out]: [usize; 2]) -> [usize; 2] {
        match self {
            Self::SecondMoment => [d_in, d_in],
            Self::WeightGradient => [d_in, d_out],
        }
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SecondMoment => "the second moment of its inputs",
            Self::WeightGradient => "the gradient of its weight",
        })
    }
}

/// What a delta asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calibration {
    /// What is taken of every adapted map.
    pub statistic: Statistic,
    /// Micro-batches of the run's training that it is taken over.
    pub batches: usize,
}

/// More batches than any calibration needs: a number above it is a slip of the pen.
const MOST_BATCHES: usize = 1 << 20;

/// Refuses a calibration over no batches, at the field that says how many.
pub(crate) fn check_batches(batches: usize) -> Option<SpecProblem> {
    let rule =
        || format!("batches is `{batches}`, but the start is taken from training batches; use 1..={MOST_BATCHES}");
    (!(1..=MOST_BATCHES).contains(&batches)).then(|| SpecProblem::new("batches", rule()))
}

/// A statistic of one map. Copies share their numbers.
#[derive(Clone, Debug)]
pub struct MapStatistic {
    data: Arc<TensorData>,
    shape: [usize; 2],
}

impl MapStatistic {
    /// The statistic that a tensor holds.
    pub fn new(matrix: &Tensor<2>) -> Self {
        Self { data: Arc::new(inner(matrix).to_data()), shape: matrix.dims() }
    }

    /// Its rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Its values in f64, row-major.
    pub fn values(&self) -> Vec<f64> {
        let data = (*self.data).clone().convert_dtype(DType::F64);
        data.try_to_vec().unwrap_or_else(|error| unreachable!("f64 data reads as f64: {error:?}"))
    }

    /// Whether the numbers of both are the same copy.
    pub fn is_copy_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.data, &other.data)
    }
}

/// The statistics of one run, by the full name of the map.
pub type RunStatistics = BTreeMap<String, MapStatistic>;

/// The sum of `xᵀx` over the inputs of a map.
#[derive(Clone, Debug)]
struct MomentSum {
    /// `[d_in, d_in]`
    sum: Tensor<2>,
    rows: u64,
}

/// Sums `xᵀx` over the inputs that forward passes show it, by map.
#[derive(Clone, Debug, Default)]
pub struct MomentSums(Arc<Mutex<BTreeMap<String, MomentSum>>>);

impl MomentSums {
    fn add(&self, names: &[&str], sum: &Tensor<2>, rows: u64) {
        let mut sums = self.0.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"));
        for name in names {
            let sum = match sums.remove(*name) {
                Some(earlier) => MomentSum { sum: earlier.sum + sum.clone(), rows: earlier.rows + rows },
                None => MomentSum { sum: sum.clone(), rows },
            };
            sums.insert((*name).to_owned(), sum);
        }
    }

    /// `E[xᵀx]` of every map that was shown an input, and how many rows that were.
    pub fn means(&self) -> BTreeMap<String, (MapStatistic, u64)> {
        let sums = self.0.lock().unwrap_or_else(|_| unreachable!("no holder of this lock panics"));
        let mean = |(name, MomentSum { sum, rows }): (&String, &MomentSum)| {
            (name.clone(), (MapStatistic::new(&(sum.clone() / *rows as f64)), *rows))
        };
        sums.iter().map(mean).collect()
    }
}

/// What a pass shows of its inputs: it is part of the [`Pass`](crate::pass::Pass), and maps show it what they are given.
#[derive(Clone, Debug)]
pub struct InputProbe {
    maps: Arc<BTreeSet<String>>,
    sums: MomentSums,
    /// 1 where a token counts and 0 where it is padding, `[rows, seq]`.
    counted: Tensor<2>,
    tokens: u64,
}

impl InputProbe {
    /// A probe of these maps for a pass over `[rows, seq]` tokens, of which those `counted` by a 1 are `tokens`. Sums are in the precision of
    /// `counted`.
    pub fn new(maps: Arc<BTreeSet<String>>, sums: MomentSums, counted: Tensor<2>, tokens: u64) -> Self {
        Self { maps, sums, counted, tokens }
    }

    /// Adds the input `[rows, seq, d_in]` of several maps to the sums. An input of another length has no padding: a pooler reads one
    /// vector per row.
    pub(crate) fn show(&self, names: &[&str], x: &Tensor<3>) {
        let names: Vec<&str> = names.iter().copied().filter(|name| self.maps.contains(*name)).collect();
        if names.is_empty() {
            return;
        }
        let [rows, seq, d_in] = x.dims();
        let x = cast(&inner(x), self.counted.dtype());
        let (counted, n) = if self.counted.dims() == [rows, seq] {
            (x.clone() * self.counted.clone().reshape([rows, seq, 1]), self.tokens)
        } else {
            (x.clone(), (rows * seq) as u64)
        };
        let [x, counted] = [x, counted].map(|x| x.reshape([rows * seq, d_in]));
        self.sums.add(&names, &x.transpose().matmul(counted), n);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{
        adapted::AdaptedLinear,
        host::Placement,
        pass::Pass,
        stream::{self, Stream},
    };

    fn place() -> Placement {
        Placement::new(&Device::flex(), DType::F64)
    }

    fn drawn<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
        let rng = &mut stream::generator(4, Stream::Data, name);
        place().tensor(stream::normal(rng, shape.iter().product(), 1.0), shape)
    }

    /// Two passes of two rows of three tokens, the last of which is padding in one row; a pooler's single vectors; a map that nobody asked
    /// about. The sums are written out.
    #[test]
    fn a_pass_shows_the_inputs_of_maps_without_padding() {
        let map = |name: &str| AdaptedLinear::new(name, drawn(name, [2, 4]), None);
        let (query, key, pooler) = (map("query"), map("key"), map("pooler"));
        let (sums, maps) = (MomentSums::default(), Arc::new(["query", "pooler"].map(str::to_owned).into()));
        let mut wanted = [vec![0.0; 4], vec![0.0; 4]];
        for round in 0..2 {
            let counted = place().tensor(vec![1.0, 1.0, 1.0, 1.0, 1.0, 0.0], [2, 3]);
            let probe = InputProbe::new(Arc::clone(&maps), sums.clone(), counted, 5);
            let pass = Pass { inputs: Some(probe), ..Pass::of(vec![]) };
            let x = drawn(&format!("x{round}"), [2, 3, 2]);
            let first = x.clone().slice([0..2, 0..1]);
            let [_, _] = AdaptedLinear::forward_all([&query, &key], &x, &pass, &pass.input_grad("query"));
            let _ = pooler.forward(first, &pass);
            let x = crate::host::values(&x);
            for (token, x) in x.chunks(2).enumerate() {
                for (at, sum) in wanted[0].iter_mut().enumerate().filter(|_| token != 5) {
                    *sum += x[at / 2] * x[at % 2];
                }
                for (at, sum) in wanted[1].iter_mut().enumerate().filter(|_| token % 3 == 0) {
                    *sum += x[at / 2] * x[at % 2];
                }
            }
        }
        let means = sums.means();
        assert_eq!(means.keys().collect::<Vec<_>>(), ["pooler", "query"]);
        for (name, sum, rows) in [("query", &wanted[0], 10), ("pooler", &wanted[1], 4)] {
            let (found, n) = &means[name];
            assert_eq!((found.shape(), *n), ([2, 2], rows));
            for (found, sum) in found.values().iter().zip(sum) {
                assert!((found - sum / rows as f64).abs() < 1e-14, "{name}: {found} is not {}", sum / rows as f64);
            }
        }
    }

    #[test]
    fn copies_of_a_statistic_share_their_numbers() {
        let one = MapStatistic::new(&drawn("one", [2, 3]));
        assert!(one.is_copy_of(&one.clone()) && !one.is_copy_of(&MapStatistic::new(&drawn("one", [2, 3]))));
        assert_eq!(one.shape(), [2, 3]);
        assert_eq!(one.values(), crate::host::values(&drawn("one", [2, 3])));
    }
}
