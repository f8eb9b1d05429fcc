//! What routers do with the tokens of a pass: how they spread them over their experts.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use burn::tensor::Tensor;

use crate::{
    adapted::AdaptedLinear,
    host::{cast, inner, values},
};

/// How a router spreads tokens over its experts: means over them.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// What an expert's update is weighed by.
    pub weights: Vec<f64>,
    /// The share of the tokens that weigh an expert most.
    pub load: Vec<f64>,
    /// Entropy of a token's weights, in nats; `ln(experts)` where they are even.
    pub entropy: f64,
}

/// Sums over the tokens that forward passes show, by map.
#[derive(Clone, Debug, Default)]
pub struct RouterSums(Arc<Mutex<BTreeMap<String, Tensor<1>>>>);

impl RouterSums {
    fn sums(&self) -> MutexGuard<'_, BTreeMap<String, Tensor<1>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The means over all tokens that were shown.
    pub fn means(&self) -> BTreeMap<String, Spread> {
        let of = |(map, sums): (&String, &Tensor<1>)| {
            let sums = values(sums);
            let (experts, tokens) = ((sums.len() - 2) / 2, sums[sums.len() - 1]);
            let mean: Vec<f64> = sums.into_iter().map(|sum| sum / tokens).collect();
            let (weights, rest) = mean.split_at(experts);
            let (load, rest) = rest.split_at(experts);
            (map.clone(), Spread { weights: weights.to_vec(), load: load.to_vec(), entropy: rest[0] })
        };
        self.sums().iter().map(of).collect()
    }
}

/// What a pass of one run shows of its routers: it is part of the [`Pass`](crate::pass::Pass), and maps show it what they are given.
#[derive(Clone, Debug)]
pub struct RouterProbe {
    sums: RouterSums,
    /// 1 for every token that is none of the padding, `[rows, seq]`.
    counted: Tensor<2>,
}

impl RouterProbe {
    /// A probe for a pass over `[rows, seq]` tokens, of which those `counted` by a 1 are added to `sums`.
    pub fn new(sums: RouterSums, counted: Tensor<2>) -> Self {
        Self { sums, counted }
    }

    /// Adds what the router of a map does with its input `[rows, seq, d_in]`, where it has one. An input of another length has no padding.
    pub(crate) fn show(&self, map: &AdaptedLinear, x: &Tensor<3>) {
        let [rows, seq, d_in] = x.dims();
        let Some(weights) = map.router_weights(0, &inner(x).reshape([1, rows * seq, d_in])) else { return };
        let weights = inner(&weights); // [1, n, experts]
        let largest = weights.clone().max_dim(2).expand(weights.dims());
        let load = weights.zeros_like().mask_fill(weights.clone().greater_equal(largest), 1.0);
        // At a weight of 0 the term is 0.
        let entropy = (weights.clone() * weights.clone().clamp_min(1e-30).log()).sum_dim(2).neg();
        let each = Tensor::cat(vec![weights, load, entropy.clone(), entropy.ones_like()], 2);
        let each = if self.counted.dims() == [rows, seq] {
            each.clone() * cast(&self.counted, each.dtype()).reshape([1, rows * seq, 1])
        } else {
            each
        };
        let columns = each.dims()[2];
        let sum = each.sum_dim(1).reshape([columns]);
        let mut sums = self.sums.sums();
        let sum = match sums.remove(map.name()) {
            Some(before) => before + sum,
            None => sum,
        };
        sums.insert(map.name().to_owned(), sum);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use burn::tensor::{DType, Device};

    use super::*;
    use crate::{
        host::Placement,
        pass::{Pass, StackPass},
        presets::hydra_lora,
        role::Role,
        slot::{RunPlan, Slot, StackPlan, attach},
    };

    /// Four tokens of which one is padding, with logits `[0, 0, 0]`, `[ln 2, 0, 0]` and `[0, 0, ln 6]`: weights of a third each, of
    /// `[1/2, 1/4, 1/4]` and of `[1/8, 1/8, 3/4]`.
    #[test]
    fn a_router_is_seen_without_padding() {
        let place = Placement::new(&Device::flex(), DType::F64);
        let variant = (hydra_lora::PRESET.spec)(1).check(None).unwrap();
        let plan =
            StackPlan::new(variant, vec![RunPlan { init_seed: 0, alpha: 1.0 }], BTreeSet::from(["query".to_owned()]));
        let mut map = AdaptedLinear::new("query", place.zeros([3, 2]), None);
        attach(&mut [Slot::Linear(&mut map)], &plan, &place).unwrap();
        for mut param in map.parameters(0).into_iter().filter(|param| param.role == Role::Router) {
            param.tensor.set(place.tensor(vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], [1, 3, 3]));
        }
        let (two, six) = (2.0_f64.ln(), 6.0_f64.ln());
        let x = place.tensor(vec![0.0, 0.0, 0.0, two, 0.0, 0.0, 0.0, 0.0, six, 9.0, 9.0, 0.0], [2, 2, 3]);
        let sums = RouterSums::default();
        let counted = place.tensor(vec![1.0, 1.0, 1.0, 0.0], [2, 2]);
        let pass = Pass {
            routers: Some(RouterProbe::new(sums.clone(), counted)),
            ..Pass::of(vec![StackPass::with(1, crate::pass::Active::All)])
        };
        let _ = map.forward(x, &pass);
        let means = sums.means();
        assert_eq!(means.keys().collect::<Vec<_>>(), ["query"]);
        let Spread { weights, load, entropy } = &means["query"];
        let third = 1.0 / 3.0;
        let wanted = [third * (third + 0.5 + 0.125), third * (third + 0.25 + 0.125), third * (third + 0.25 + 0.75)];
        // Of the even token all three weights are the largest.
        let most = [2.0 * third, third, 2.0 * third];
        let all = weights.iter().chain(load).zip(wanted.iter().chain(&most));
        assert!(all.clone().all(|(found, wanted)| (found - wanted).abs() < 1e-14), "{weights:?}, {load:?}");
        let of = |weights: &[f64]| weights.iter().map(|weight| -weight * weight.ln()).sum::<f64>();
        let mean = third * (of(&[third; 3]) + of(&[0.5, 0.25, 0.25]) + of(&[0.125, 0.125, 0.75]));
        assert!((entropy - mean).abs() < 1e-14, "{entropy} is not {mean}");
    }
}
