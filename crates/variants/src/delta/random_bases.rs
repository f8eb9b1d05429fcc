//! A weighted sum of products of random bases: of full rank with few trained numbers, `ΔW = s·Σ_b Bᵦ·Λᵦ·A·Γᵦ`.
//!
//! With `m = min(d_in, d_out)` and `M = max(d_in, d_out)` there are `n = ⌈m/rank⌉` bases, as many as full rank needs. Frozen are `A: [rank, m]`, one
//! for all bases, and `B: [M, n·rank]`; trained are `Λ: [runs, n, rank]`, which starts at zero, and `Γ: [runs, m, n]`, which starts at
//! `1/max(n, m)`: `n·(rank + m)` numbers per map, fewer at a *larger* rank. Component `k = p·n + b` of the sum is
//!
//! ```text
//! s·λ[b, p]·(A[p, :]∘Γ[:, b]) ⊗ B[:, k]
//! ```
//!
//! the first factor on the inputs where `d_in ≤ d_out`, on the outputs elsewhere. Rows pass two factors of `n·rank ≈ m` components; that is about
//! twice the base's own product for a square map.
//!
//! `A` and `B` are slices of one pair, drawn for the widest map from `projection_seed` (not the run's seed) and shared by all maps and runs,
//! uniform with standard deviation 1, `U(±√3)`. PEFT draws its pair by kaiming and divides it by its own standard deviation, which is the same but
//! for that estimate. The generator is portable, so a checkpoint needs the seed and a checksum, not the pair.
//!
//! **Weight decay** pulls `Λ` and `Γ` toward 0, as in PEFT. The update goes to 0 with `Λ` and `W'` to `W0`.
//!
//! Albert et al., *RandLoRA: Full-rank parameter-efficient fine-tuning of large models*, ICLR 2025, arXiv:2502.00987, Eq. 2 and Section 3.2.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Delta, DeltaRecipe, Site, scale, shared_random::checksum};
use crate::{
    capability::{Capability, Requirement},
    form::{Chain, Form},
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConfig, TunerConstant, TunerTensor},
    role::{Param, Role},
    stream::{self, Stream},
};

/// The seed of the pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Seed of the shared pair; PEFT's `projection_prng_key`.
    #[serde(default)]
    pub projection_seed: u64,
}

/// A frozen pair and the weights of its products per run.
#[derive(Clone, Debug)]
pub struct RandomBases {
    /// `[rank, m]`, shared by all runs.
    a: Tensor<2>,
    /// `[M, n·rank]`, shared by all runs.
    b: Tensor<2>,
    /// `Λ`, `[runs, n, rank]`.
    pub lambda: Tensor<3>,
    /// `Γ`, `[runs, m, n]`.
    pub gamma: Tensor<3>,
    /// Whether `A` is on the inputs.
    is_wide: bool,
}

/// Bases of a map whose shorter side is `least`.
fn bases(least: usize, rank: usize) -> usize {
    least.div_ceil(rank)
}

/// Trained numbers of a map `[d_in, d_out]`.
pub fn parameters([d_in, d_out]: [usize; 2], rank: usize) -> usize {
    let least = d_in.min(d_out);
    bases(least, rank) * (rank + least)
}

/// The pair of `seed` for maps whose widths are at most `least` and `most`: `A [rank, least]` and `B [most, n·rank]`, row-major.
pub fn pair(seed: u64, rank: usize, [least, most]: [usize; 2]) -> [Vec<f64>; 2] {
    let draw = |name, n| stream::uniform(&mut stream::generator(seed, Stream::Init, name), n, 3.0_f64.sqrt());
    [draw("randlora.A", rank * least), draw("randlora.B", most * bases(least, rank) * rank)]
}

impl DeltaRecipe for Spec {
    type Delta = RandomBases;
    const PROVIDES: &'static [Capability] = &[];
    const LACKS: &'static [(Capability, &'static str)] = &[
        (Capability::OwnRanks, "whose random pair has one rank and is shared by all maps"),
        (Capability::DrawnFactors, "whose random pair has a seed and a distribution of its own"),
    ];
    const REQUIRES: &'static [Requirement] = &[Requirement {
        needs: Capability::ConstantRank,
        rule: "the rank of `random_bases` is that of a basis, not of the update; use it with `rank_policy: {kind: constant}`",
    }];
    const ROLES: &'static [Role] = &[Role::Vector];

    /// Of full rank at every rank of a basis.
    fn components(&self, _rank: usize) -> usize {
        usize::MAX
    }

    fn peft(&self) -> Option<PeftForm> {
        let fields = vec![
            ("r", Field::Rank),
            ("randlora_alpha", Field::Alpha),
            ("randlora_dropout", Field::Dropout),
            ("projection_prng_key", Field::Passive(json!(self.projection_seed))),
            ("save_projection", Field::Fixed(json!(true))),
            ("sparse", Field::Fixed(json!(false))),
            ("very_sparse", Field::Fixed(json!(false))),
            ("init_weights", Field::Passive(json!(true))),
            ("fan_in_fan_out", Field::Passive(json!(false))),
        ];
        Some(PeftForm::Tuner(Tuner { peft_type: "RANDLORA", fields }))
    }

    fn peft_tensors(&self, _map: TunedMap<'_>) -> Vec<TunerTensor> {
        vec![
            TunerTensor::transposed("lambda", "randlora_lambda"),
            TunerTensor::transposed("gamma", "randlora_gamma"),
        ]
    }

    /// The pair. A map uses its first lines and numbers, in PEFT as here.
    fn peft_shared(&self, maps: &[TunedMap<'_>]) -> Vec<TunerConstant> {
        let Some(&TunedMap { rank, .. }) = maps.first() else { return Vec::new() };
        // As the pair is drawn: for the widest inputs and outputs.
        let widest = [0, 1].map(|axis| maps.iter().map(|map| map.shape[axis]).max().unwrap_or(0));
        let drawn @ [least, most] = [widest[0].min(widest[1]), widest[0].max(widest[1])];
        let [a, b] = pair(self.projection_seed, rank, drawn);
        let constant = |theirs, shape, numbers| TunerConstant { theirs, shape, numbers, is_whole: false };
        vec![
            constant("base_model.randlora_A", vec![rank, 1, least], a),
            constant("base_model.randlora_B", vec![most, bases(least, rank), rank], b),
        ]
    }

    /// The pair of PEFT's own folders is another, since torch draws it: it is held against this one, and refused.
    fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
        config.is("RANDLORA").then(|| Self {
            projection_seed: config.count("projection_prng_key").unwrap_or(0) as u64,
        })
    }

    fn init(&self, at: &mut Site<'_>) -> RandomBases {
        let ([d_in, d_out], rank, place) = (at.shape, at.rank, at.place);
        let (m, most) = (d_in.min(d_out), d_in.max(d_out));
        let n = bases(m, rank);
        let widest = [at.widest[0].min(at.widest[1]), at.widest[0].max(at.widest[1])];
        let columns = bases(widest[0], rank) * rank;
        let seed = self.projection_seed;
        let of = |part: usize| std::mem::take(&mut pair(seed, rank, widest)[part]);
        let a = at.shared.get("randlora.A", [rank, widest[0]], || place.tensor(of(0), [rank, widest[0]]));
        let b = at.shared.get("randlora.B", [widest[1], columns], || place.tensor(of(1), [widest[1], columns]));
        // Slices are shared too: all maps of one shape hold the same tensors.
        let a = at.shared.get(&format!("randlora.A.{m}"), [rank, m], || a.slice([0..rank, 0..m]));
        let b = at.shared.get(&format!("randlora.B.{most}.{n}"), [most, n * rank], || b.slice([0..most, 0..n * rank]));
        RandomBases {
            a,
            b,
            lambda: at.zeros(n, rank),
            gamma: at.zeros(m, n) + 1.0 / n.max(m) as f64,
            is_wide: d_in <= d_out,
        }
    }
}

impl Delta for RandomBases {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![Param::new("lambda", Role::Vector, &mut self.lambda), Param::new("gamma", Role::Vector, &mut self.gamma)]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let ([runs, n, r], [_, m, _]) = (self.lambda.dims(), self.gamma.dims());
        // Places in the order (side, p, b).
        let lambda = self.lambda.clone().swap_dims(1, 2).reshape([runs, 1, r, n]);
        let gamma = self.gamma.clone().reshape([runs, m, 1, n]);
        let a = self.a.clone().transpose().reshape([1, m, r, 1]);
        let weighted = (lambda * gamma * a).reshape([runs, m, r * n]);
        let b = self.b.clone().unsqueeze::<3>().expand([runs as i64, -1, -1]);
        let middle = scale(gate, r * n);
        Form::LowRank(if self.is_wide {
            Chain { down: weighted, middle, up: b.swap_dims(1, 2) }
        } else {
            Chain { down: b, middle, up: weighted.swap_dims(1, 2) }
        })
    }

    fn checksum(&self) -> Option<String> {
        Some(checksum([&self.a, &self.b]))
    }
}
