//! A few trained entries of `ΔW`, the rest 0.
//!
//! `entries: [runs, 1, k]`, `k = rank·(d_in + d_out)`, start at 0; each has a place in `ΔW: [d_in, d_out]`, drawn without repetition from
//! `mask_seed` and the map's name (not the run's seed), so that runs share them. The generator is portable: an adapter has the seed and a
//! checksum, not the places. `ΔW` is formed by writing the entries into zeros.
//!
//! `rank` counts as LoRA's does: both train `rank·(d_in + d_out)` numbers. It does not bound the rank of `ΔW`, but `k` is at most `d_in·d_out`.
//!
//! | field | default | source |
//! |---|---|---|
//! | `mask_seed` | 0 | PEFT's `random_seed` is unset, by which every run has another mask |
//!
//! Departure: of the paper's masks the random one alone is here, as in PEFT; those by magnitude, gradient or structure are not.
//!
//! Bhardwaj et al., *Sparse High Rank Adapters*, NeurIPS 2024, arXiv:2406.13175.

use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Delta, DeltaRecipe, Site, block_rotation::WHOLE};
use crate::{
    capability::{Capability, Requirement},
    form::Form,
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConfig, TunerConstant, TunerTensor},
    role::{Param, Role},
    stream::{self, Stream},
};

/// Where the places are drawn from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Seed of the places.
    #[serde(default)]
    pub mask_seed: u64,
}

/// Entries per run, and their places.
#[derive(Clone, Debug)]
pub struct Sparse {
    /// `[runs, 1, k]`
    pub entries: Tensor<3>,
    /// Where each lies in `ΔW`, row-major, `[k]`.
    places: Tensor<1, Int>,
    shape: [usize; 2],
    checksum: String,
}

/// The places of `rank·(d_in + d_out)` entries in the `ΔW` `[d_in, d_out]` of the map called `map`, row-major, in rising order.
pub fn places(seed: u64, map: &str, rank: usize, [d_in, d_out]: [usize; 2]) -> Vec<usize> {
    let rng = &mut stream::generator(seed, Stream::Init, &format!("{map}.mask"));
    let mut places = stream::distinct(rng, rank * (d_in + d_out), d_in * d_out);
    places.sort_unstable();
    places
}

impl DeltaRecipe for Spec {
    type Delta = Sparse;
    const RANK_BOUNDED: bool = false;
    const LOW_RANK: bool = false;
    const PROVIDES: &'static [Capability] = &[Capability::OwnRanks];
    const LACKS: &'static [(Capability, &'static str)] =
        &[(Capability::DrawnFactors, "whose places have a seed of their own")];
    const REQUIRES: &'static [Requirement] = WHOLE;
    const ROLES: &'static [Role] = &[Role::Entry];

    fn components(&self, _rank: usize) -> usize {
        usize::MAX
    }

    fn misfit(&self, rank: usize, [d_in, d_out]: [usize; 2]) -> Option<String> {
        let (all, most) = (d_in * d_out, d_in * d_out / (d_in + d_out));
        let too_many = rank * (d_in + d_out) > all;
        too_many.then(|| {
            format!(
                "`rank` stands for `rank·(d_in + d_out)` entries, of which it has `{all}`; its largest rank is `{most}`"
            )
        })
    }

    fn peft(&self) -> Option<PeftForm> {
        let fields = vec![
            ("r", Field::Rank),
            ("mask_type", Field::Fixed(json!("random"))),
            ("random_seed", Field::Passive(json!(null))),
            ("init_weights", Field::Passive(json!(true))),
            ("fan_in_fan_out", Field::Passive(json!(false))),
        ];
        Some(PeftForm::Tuner(Tuner { peft_type: "SHIRA", fields }))
    }

    fn peft_tensors(&self, TunedMap { shape: [d_in, d_out], rank, .. }: TunedMap<'_>) -> Vec<TunerTensor> {
        vec![TunerTensor::shaped("entries", "shira_weight", [rank * (d_in + d_out)])]
    }

    /// The places: row and column of every entry in PEFT's `[d_out, d_in]`.
    fn peft_constants(&self, TunedMap { slot, shape, rank }: TunedMap<'_>) -> Vec<TunerConstant> {
        let (places, [_, d_out]) = (places(self.mask_seed, slot, rank, shape), shape);
        let rows = places.iter().map(|place| (place % d_out) as f64);
        let columns = places.iter().map(|place| (place / d_out) as f64);
        let numbers = rows.chain(columns).collect();
        vec![TunerConstant { theirs: "shira_indices", shape: vec![2, places.len()], numbers, is_whole: true }]
    }

    /// Of PEFT's own folders the places are others, since torch draws them: they are held against these, and refused.
    fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
        config.is("SHIRA").then(Self::default)
    }

    fn init(&self, at: &mut Site<'_>) -> Sparse {
        let k = at.rank * (at.shape[0] + at.shape[1]);
        let places = if at.is_shape() { Vec::new() } else { places(self.mask_seed, at.slot, at.rank, at.shape) };
        let mut hasher = Sha256::new();
        for place in &places {
            hasher.update((*place as u64).to_le_bytes());
        }
        let n = places.len();
        let places: Vec<i64> = places.into_iter().map(|place| place as i64).collect();
        Sparse {
            entries: at.zeros(1, k),
            places: Tensor::from_data(TensorData::new(places, [n]), (&at.place.device, DType::I64)),
            shape: at.shape,
            checksum: hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

impl Delta for Sparse {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![Param::new("entries", Role::Entry, &mut self.entries)]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let ([runs, _, _], [d_in, d_out]) = (self.entries.dims(), self.shape);
        let entries = self.entries.clone() * gate.clone().narrow(2, 0, 1);
        let zeros = Tensor::<3>::zeros([runs, 1, d_in * d_out], (&entries.device(), entries.dtype()));
        let change = zeros.select_assign(2, self.places.clone(), entries, IndexingUpdateOp::Add);
        Form::Dense(change.reshape([runs, d_in, d_out]))
    }

    fn checksum(&self) -> Option<String> {
        Some(self.checksum.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_distinct_and_every_map_has_its_own() {
        let of = |seed, map| places(seed, map, 1, [4, 5]);
        assert_eq!(of(0, "a").len(), 9);
        assert!(of(0, "a").windows(2).all(|pair| pair[0] < pair[1]) && of(0, "a").iter().all(|place| *place < 20));
        assert_ne!(of(0, "a"), of(0, "b"));
        assert_ne!(of(0, "a"), of(1, "a"));
        assert_eq!(Spec::default().misfit(2, [4, 5]), None);
        assert!(Spec::default().misfit(3, [4, 5]).is_some_and(|why| why.ends_with("its largest rank is `2`")));
    }
}
