//! Factors whose pieces are mixtures of vectors from one bank that all maps share: `ΔW = s·A·B`.
//!
//! A column of `A: [runs, d_in, rank]` and a row of `B: [runs, rank, d_out]` are cut into pieces of `v` numbers. Every piece is a mixture of the
//! `K` vectors of the bank `S: [runs, h, v]` with the largest logits, weighted by a softmax of those `K`:
//!
//! ```text
//! piece = Σ_{k ∈ topK(σ)} softmax(σ restricted to topK)_k · S_k        σ = the piece's h logits
//! ```
//!
//! The bank belongs to all maps of the adapter, `h·v` numbers; a map has `rank·h·(d_in + d_out)/v` logits. The gradient of the bank is the sum over
//! the maps, and reaches the vectors in use alone, as that of the logits does. Where logits tie at the `K`-th largest, all of them count.
//! The bank starts at `U(±0.02)` and the logits at `N(0, 0.1²)`: the start is not the base, but near it.
//!
//! | field | default | source |
//! |---|---|---|
//! | `vectors` | 256: `h` | PEFT's `num_vectors` |
//! | `vector_length` | 256: the largest `v` | PEFT's `vector_length` |
//! | `top_k` | 2: `K` | PEFT's `topk` |
//! | `bank_bound` | 0.02 | PEFT's `init_vector_bank_bound` |
//! | `logits_std` | 0.1 | PEFT's `init_logits_std` |
//!
//! Departure: the authors' and PEFT's code refuse a map whose widths `v` does not divide. Here `v` is the longest divisor of both widths up to
//! `vector_length`, and maps of another length share another bank; where 256 divides all widths there is one, of the paper's length.
//!
//! Li, Han and Ji, *VB-LoRA: Extreme Parameter Efficient Fine-Tuning with Vector Banks*, NeurIPS 2024, arXiv:2405.15179.

use burn::tensor::{Tensor, activation::softmax};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Delta, DeltaRecipe, Site, TIED_OWNER};
use crate::{
    capability::Capability,
    error::SpecProblem,
    form::{Chain, Form},
    host::inner,
    init::AnyInit,
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConfig, TunerLayout, TunerTensor},
    role::{Param, Role, Tied},
    stream,
};

/// How large the bank is and how many of its vectors a piece has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Vectors of the bank.
    #[serde(default = "default_size")]
    pub vectors: usize,
    /// The largest length of a vector.
    #[serde(default = "default_size")]
    pub vector_length: usize,
    /// Vectors of a mixture.
    #[serde(default = "top_k")]
    pub top_k: usize,
    /// Largest magnitude of the bank's first values.
    #[serde(default = "bank_bound")]
    pub bank_bound: f64,
    /// Standard deviation of the first logits.
    #[serde(default = "logits_std")]
    pub logits_std: f64,
}

fn default_size() -> usize {
    256
}

fn top_k() -> usize {
    2
}

fn bank_bound() -> f64 {
    0.02
}

fn logits_std() -> f64 {
    0.1
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            vectors: default_size(),
            vector_length: default_size(),
            top_k: top_k(),
            bank_bound: bank_bound(),
            logits_std: logits_std(),
        }
    }
}

/// The longest divisor of both widths up to `most`.
pub(crate) fn length(most: usize, [d_in, d_out]: [usize; 2]) -> usize {
    let divides = |v: &usize| d_in.is_multiple_of(*v) && d_out.is_multiple_of(*v);
    (1..=most.min(d_in).min(d_out)).rev().find(divides).unwrap_or(1)
}

/// A bank that other maps refer to as well, and the map's own logits.
#[derive(Clone, Debug)]
pub struct VectorBank {
    /// `S`, `[runs, h, v]`.
    pub bank: Tied,
    /// Of the pieces of `A`, `[runs, rank, d_in/v·h]`.
    pub logits_a: Tensor<3>,
    /// Of the pieces of `B`, `[runs, rank, d_out/v·h]`.
    pub logits_b: Tensor<3>,
    top_k: usize,
}

impl DeltaRecipe for Spec {
    type Delta = VectorBank;
    const PROVIDES: &'static [Capability] = &[Capability::OwnRanks];
    const LACKS: &'static [(Capability, &'static str)] = &[
        (Capability::DrawnFactors, "whose bank and logits have distributions of their own"),
        (Capability::OwnTensors, "whose bank belongs to all maps"),
    ];
    const ROLES: &'static [Role] = &[Role::Bank, Role::Logits];
    const DRAWS: bool = true;
    const EXACT_START: bool = false;
    const TIED: bool = true;

    fn check(&self) -> Vec<SpecProblem> {
        let mut problems = Vec::new();
        for (field, value) in [("vectors", self.vectors), ("vector_length", self.vector_length), ("top_k", self.top_k)] {
            if value == 0 {
                problems.push(SpecProblem::new(field, format!("{field} is `0`, but must be at least 1")));
            }
        }
        if self.top_k > self.vectors {
            let rule = format!("top_k is `{}`, but the bank has {} vectors; choose at most as many", self.top_k, self.vectors);
            problems.push(SpecProblem::new("top_k", rule));
        }
        for (field, value) in [("bank_bound", self.bank_bound), ("logits_std", self.logits_std)] {
            if !(value.is_finite() && value > 0.0) {
                let rule = format!("{field} is `{value}`, but must be above 0, or all vectors start alike");
                problems.push(SpecProblem::new(field, rule));
            }
        }
        problems
    }

    /// A number of a factor is a mixture of numbers up to the bank's bound, and so no larger: `‖A·B‖` is at most `bound²·rank·√(d_in·d_out)`,
    /// a bound that no draw comes near, beside a base whose numbers have a deviation of 0.02 or more.
    fn start_share(&self, _init: &AnyInit, rank: usize) -> f64 {
        50.0 * self.bank_bound.powi(2) * rank as f64
    }

    fn peft(&self) -> Option<PeftForm> {
        let fields = vec![
            ("r", Field::Rank),
            ("num_vectors", Field::Fixed(json!(self.vectors))),
            ("vector_length", Field::Fixed(json!(self.vector_length))),
            ("topk", Field::Fixed(json!(self.top_k))),
            ("save_only_topk_weights", Field::Fixed(json!(false))),
            ("vblora_dropout", Field::Dropout),
            ("init_vector_bank_bound", Field::Passive(json!(self.bank_bound))),
            ("init_logits_std", Field::Passive(json!(self.logits_std))),
            ("fan_in_fan_out", Field::Passive(json!(false))),
        ];
        Some(PeftForm::Tuner(Tuner { peft_type: "VBLORA", fields }))
    }

    fn peft_tensors(&self, TunedMap { shape: [d_in, d_out], rank, .. }: TunedMap<'_>) -> Vec<TunerTensor> {
        let (h, v) = (self.vectors, length(self.vector_length, [d_in, d_out]));
        vec![
            TunerTensor::shaped("vectors", "base_model.vblora_vector_bank", [h, v]),
            TunerTensor::shaped("logits_a", "vblora_logits_A", [rank, d_in / v, h]),
            TunerTensor { ours: "logits_b", theirs: "vblora_logits_B", layout: TunerLayout::Pieces(d_out / v) },
        ]
    }

    /// PEFT has one bank, whose vectors are as long as its configuration says.
    fn for_peft(&self, maps: &[TunedMap<'_>]) -> Result<Self, String> {
        let mut lengths = maps.iter().map(|map| (length(self.vector_length, map.shape), map.slot));
        let Some((v, first)) = lengths.next() else { return Ok(*self) };
        match lengths.find(|(other, _)| *other != v) {
            None => Ok(Self { vector_length: v, ..*self }),
            Some((other, slot)) => Err(format!(
                "has several banks, where PEFT has one: vectors of `{first}` have length {v}, those of `{slot}` {other}; adapt maps of one width, \
                 set `vector_length` to a divisor of all, or approximate its update by `--svd --rank R`"
            )),
        }
    }

    fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
        let count = |field, or: usize| config.count(field).unwrap_or(or);
        config.is("VBLORA").then(|| Self {
            vectors: count("num_vectors", default_size()),
            vector_length: count("vector_length", default_size()),
            top_k: count("topk", top_k()),
            ..Self::default()
        })
    }

    fn init(&self, at: &mut Site<'_>) -> VectorBank {
        let (v, h, rank) = (length(self.vector_length, at.shape), self.vectors, at.rank);
        let owner = format!("{TIED_OWNER}bank.{v}");
        let bank = at.tied(&owner, "vectors", |at| {
            at.drawn_by(&format!("{owner}.vectors"), [h, v], |rng, n| stream::uniform(rng, n, self.bank_bound))
        });
        let logits = |name: &str, width: usize| {
            let name = format!("{}.{name}", at.slot);
            at.drawn_by(&name, [rank, width / v * h], |rng, n| stream::normal(rng, n, self.logits_std))
        };
        let [d_in, d_out] = at.shape;
        VectorBank { bank, logits_a: logits("logits_a", d_in), logits_b: logits("logits_b", d_out), top_k: self.top_k }
    }
}

/// What a mixture weighs every vector of the bank by, `[.., h]`: a softmax of the `k` largest logits, and 0 elsewhere.
fn weights(logits: Tensor<3>, k: usize) -> Tensor<3> {
    let [.., h] = logits.dims();
    if k >= h {
        return softmax(logits, 2);
    }
    // Maxima alone, which need no copy to the host: a step may be recorded.
    let values = inner(&logits);
    let mut left = values.clone();
    for _ in 1..k {
        let largest = left.clone().max_dim(2);
        let taken = left.clone().greater_equal(largest.expand(left.dims()));
        left = left.mask_fill(taken, f64::NEG_INFINITY);
    }
    let kth = left.max_dim(2).expand(values.dims());
    softmax(logits.mask_fill(values.lower(kth), f64::NEG_INFINITY), 2)
}

impl VectorBank {
    /// A factor of `logits` `[runs, rank, width/v·h]`, `[runs, rank, width]`.
    fn factor(&self, logits: &Tensor<3>) -> Tensor<3> {
        let ([runs, h, v], [_, rank, all]) = (self.bank.value.dims(), logits.dims());
        let pieces = logits.clone().reshape([runs, rank * all / h, h]);
        weights(pieces, self.top_k).matmul(self.bank.value.clone()).reshape([runs, rank, all / h * v])
    }
}

impl Delta for VectorBank {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![
            Param::new("vectors", Role::Bank, &mut self.bank.value).owned_by(&self.bank.owner),
            Param::ranked("logits_a", Role::Logits, 1, &mut self.logits_a),
            Param::ranked("logits_b", Role::Logits, 1, &mut self.logits_b),
        ]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let down = self.factor(&self.logits_a).swap_dims(1, 2);
        Form::LowRank(Chain { down, middle: gate.clone(), up: self.factor(&self.logits_b) })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;
    use crate::host::{Placement, values};

    /// The weights of the two largest of four logits are their softmax, whatever the others are.
    #[test]
    fn the_largest_logits_share_the_weight() {
        let place = Placement::new(&Device::flex(), DType::F64);
        let logits = place.tensor(vec![0.3, -2.0, 1.0, 0.2, 5.0, 5.0, 4.0, 3.0], [1, 2, 4]);
        let e = 0.7_f64.exp();
        let wanted = [1.0 / (1.0 + e), 0.0, e / (1.0 + e), 0.0, 0.5, 0.5, 0.0, 0.0];
        // Of two that tie both are the largest; the next value is not looked at.
        let found = values(&weights(logits.clone(), 2));
        for (found, wanted) in found[..4].iter().zip(&wanted[..4]) {
            assert!((found - wanted).abs() < 1e-15, "{found} is not {wanted}");
        }
        let all = values(&weights(logits, 4));
        assert!((all[..4].iter().sum::<f64>() - 1.0).abs() < 1e-15 && all.iter().all(|weight| *weight > 0.0));
    }

    #[test]
    fn a_vector_is_as_long_as_both_widths_allow() {
        for (shape, wanted) in [([768, 3072], 256), ([384, 1536], 192), ([768, 768], 256), ([12, 8], 4), ([7, 11], 1)] {
            assert_eq!(length(256, shape), wanted, "{shape:?}");
        }
    }
}
