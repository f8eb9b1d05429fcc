//! Edits of one run's part of the optimizer between steps: its numbers, its moments, its counts.

use burn::tensor::Tensor;
use kernels::ops;
use variants::host::{Placement, cast, values};

use super::{ParamSlice, StackOptimizer};

/// One of the three flat tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Value,
    First,
    Second,
}

const MOMENTS: [Which; 2] = [Which::First, Which::Second];

impl StackOptimizer {
    /// Where the tensor of a slot lies, where it trains.
    pub fn find(&self, slot: &str, field: &str) -> Option<ParamSlice> {
        self.slices.iter().find(|slice| slice.meta.slot == slot && slice.meta.field == field).cloned()
    }

    /// Gives a run other numbers of a tensor, `[1, rows, cols]`.
    pub fn replace(&mut self, run: usize, slice: &ParamSlice, value: Tensor<3>) {
        self.put(Which::Value, run, slice, value.reshape([1, slice.len()]));
    }

    /// Forgets a run's moments of a tensor, and its steps.
    pub fn forget(&mut self, run: usize, slice: &ParamSlice) {
        for which in MOMENTS {
            let zeros = self.of_run(which, run, slice).zeros_like();
            self.put(which, run, slice, zeros);
        }
        let segments: usize = self.slices.iter().map(ParamSlice::segments).sum();
        self.counts[run * segments + slice.segment..][..slice.segments()].fill(0);
    }

    /// Gives some components of a run's tensor other numbers, from `value` `[1, rows, cols]`, and forgets their moments and steps.
    pub fn renew(&mut self, run: usize, slice: &ParamSlice, components: &[usize], value: &Tensor<3>) {
        let chosen: Vec<f64> =
            slice.components().map(|component| f64::from(u8::from(components.contains(&component)))).collect();
        let place = Placement::new(&value.device(), value.dtype());
        let chosen = place.tensor(chosen, [1, slice.len()]).greater_elem(0.5);
        let old = self.of_run(Which::Value, run, slice);
        let new = cast(&value.clone().reshape([1, slice.len()]), old.dtype());
        self.put(Which::Value, run, slice, old.mask_where(chosen.clone(), new));
        for which in MOMENTS {
            let old = self.of_run(which, run, slice);
            self.put(which, run, slice, old.mask_fill(chosen.clone(), 0.0));
        }
        if slice.axis.is_some() {
            let segments: usize = self.slices.iter().map(ParamSlice::segments).sum();
            for at in components {
                self.counts[run * segments + slice.segment + at] = 0;
            }
        }
    }

    /// Sets the `share` of a run's moments of a tensor that is smallest in magnitude to 0, each moment apart. Its steps count on.
    pub fn prune_moments(&mut self, run: usize, slice: &ParamSlice, share: f64) {
        for which in MOMENTS {
            let old = self.of_run(which, run, slice);
            let magnitudes: Vec<f64> = values(&old).into_iter().map(f64::abs).collect();
            let threshold = quantile(magnitudes, share);
            let pruned = old.clone().mask_fill(old.clone().abs().lower_equal_elem(threshold), 0.0);
            self.put(which, run, slice, pruned);
        }
    }

    fn flat(&mut self, which: Which) -> &mut Tensor<2> {
        let laid = self.laid.as_mut().unwrap_or_else(|| unreachable!("tensors are laid out before the first step"));
        match which {
            Which::Value => &mut laid.flat.value,
            Which::First => &mut laid.flat.first,
            Which::Second => &mut laid.flat.second,
        }
    }

    /// A run's numbers of a tensor, `[1, n]`: a view where the device has views.
    fn of_run(&mut self, which: Which, run: usize, slice: &ParamSlice) -> Tensor<2> {
        self.flat(which).clone().slice([run..run + 1, slice.start..slice.start + slice.len()])
    }

    /// Puts a run's numbers of a tensor in place, where recorded steps read them.
    fn put(&mut self, which: Which, run: usize, slice: &ParamSlice, new: Tensor<2>) {
        let part = [run..run + 1, slice.start..slice.start + slice.len()];
        let flat = self.flat(which);
        if ops::writes_in_place(&flat.device()) {
            let _ = ops::assign(flat.clone().slice(part), new);
        } else {
            *flat = flat.clone().slice_assign(part, new);
        }
    }
}

/// torch's `quantile`: linear between the two values at `share` of the way through the sorted list.
fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = share * (values.len() - 1) as f64;
    let (below, rest) = (at.floor() as usize, at.fract());
    let above = values[(below + 1).min(values.len() - 1)];
    values[below] + rest * (above - values[below])
}

#[cfg(test)]
mod tests {
    use super::quantile;

    /// `torch.quantile(torch.tensor([4., 1., 3., 2.]), q)`.
    #[test]
    fn quantiles_are_torchs() {
        for (share, wanted) in [(0.0, 1.0), (0.5, 2.5), (0.9, 3.7), (1.0, 4.0)] {
            let found = quantile(vec![4.0, 1.0, 3.0, 2.0], share);
            assert!((found - wanted).abs() < 1e-12, "{share}: {found}");
        }
        assert_eq!(quantile(vec![7.0], 0.9).to_bits(), 7.0_f64.to_bits());
    }
}
