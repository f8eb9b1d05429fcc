//! The forward pass of a map: one product with the frozen weight, and the updates of every stack on the stack's own rows.

use burn::tensor::Tensor;
use kernels::ops::{self, Dropout, SharedInputGrad};

use super::{
    AdaptedLinear, LinearStack,
    adapter::Adapter,
    batched::{BatchedAdapters, share_down_products},
};
use crate::{
    combine::{Combine, MapForward},
    form::Form,
    host::cast,
    pass::{Pass, StackPass},
};

impl LinearStack {
    /// Whether its output for `rows` rows of each run is that of a base `[d_in, d_out]`, bias and all, plus a low-rank update: the base's own
    /// bias may come with the product.
    fn adds(&self, rows: usize, shape: [usize; 2]) -> bool {
        let of_adapter = |adapter: &Adapter| adapter.adds(rows, shape);
        self.weight.is_none() && self.bias.is_none() && self.adapter.as_ref().is_none_or(of_adapter)
    }
}

impl AdaptedLinear {
    /// `[rows, seq, d_in] -> [rows, seq, d_out]`, every stack on its own rows.
    #[expect(clippy::needless_pass_by_value, reason = "as every layer takes its input")]
    pub fn forward(&self, x: Tensor<3>, pass: &Pass) -> Tensor<3> {
        self.forward_among(&x, pass, &pass.input_grad(&self.name))
    }

    /// [`forward`](Self::forward) where other operations read `x` as well: all of them contribute to `input_grad`.
    pub fn forward_among(&self, x: &Tensor<3>, pass: &Pass, input_grad: &SharedInputGrad) -> Tensor<3> {
        let [y] = Self::forward_all([self], x, pass, input_grad);
        y
    }

    /// [`forward_among`](Self::forward_among) of maps with the same input, whose low-rank products with it are batched where possible.
    pub fn forward_all<const N: usize>(
        maps: [&Self; N],
        x: &Tensor<3>,
        pass: &Pass,
        input_grad: &SharedInputGrad,
    ) -> [Tensor<3>; N] {
        if let Some(probe) = &pass.inputs {
            probe.show(&maps.map(Self::name), x);
        }
        if let Some(probe) = &pass.routers {
            maps.iter().filter(|map| map.stacks() > 0 && map.is_adapted(0)).for_each(|map| probe.show(map, x));
        }
        let [rows, seq, _] = x.dims();
        let per_run = rows / pass.runs().max(1); // a map without stacks takes a pass without any
        let mut batches = maps.map(|map| map.batches(pass, [per_run, seq]));
        share_down_products(batches.iter_mut().flatten(), x, input_grad);
        let mut index = 0;
        batches.map(|batches| {
            index += 1;
            maps[index - 1].with(batches, x, pass, input_grad)
        })
    }

    /// The updates that are added to the base's output; those of equal key on consecutive rows as one batch.
    fn batches(&self, pass: &Pass, [per_run, seq]: [usize; 2]) -> Vec<BatchedAdapters> {
        let mut batches: Vec<BatchedAdapters> = Vec::new();
        let mut start = 0;
        for (stack, here) in self.stacks.iter().zip(&pass.stacks) {
            let rows = here.runs * per_run;
            let adds = stack.adds(per_run * seq, self.shape());
            if let Some(adapter) = stack.adapter.as_ref().filter(|_| adds) {
                let Form::LowRank(chain) = adapter.form_of(here, &self.weight) else {
                    unreachable!("only low-rank updates are added")
                };
                let one = BatchedAdapters::of(adapter, chain, here, self.site, [start, rows]);
                match batches.last_mut().filter(|batch| batch.can_join(&one)) {
                    Some(batch) => batch.extend(one),
                    None => batches.push(one),
                }
            }
            start += rows;
        }
        batches
    }

    /// The output of every stack on its rows; `batches` holds the updates that are added.
    fn with(
        &self,
        batches: Vec<BatchedAdapters>,
        x: &Tensor<3>,
        pass: &Pass,
        input_grad: &SharedInputGrad,
    ) -> Tensor<3> {
        let [rows, seq, _] = x.dims();
        let per_run = rows / pass.runs().max(1);
        let mut batches = batches.into_iter().peekable();
        let mut parts: Vec<Tensor<3>> = Vec::new();
        let (mut at, mut start) = (0, 0);
        while at < self.stacks.len() {
            // Consecutive stacks that add to the base's output share one product with it.
            let adding = self.stacks[at..].iter().take_while(|stack| stack.adds(per_run * seq, self.shape())).count();
            let several = at..at + adding.max(1);
            let own = [start, pass.stacks[several.clone()].iter().map(|here| here.runs * per_run).sum()];
            parts.push(if adding > 0 {
                let mut y = ops::affine(x.clone(), own, self.weight.clone(), self.bias.clone(), input_grad);
                while let Some(batch) = batches.next_if(|batch| batch.starts_before(own[0] + own[1])) {
                    y = batch.add_to(y, x, start, input_grad);
                }
                y
            } else {
                self.own(&self.stacks[at], x, own, &pass.stacks[at], input_grad)
            });
            (at, start) = (several.end, own[0] + own[1]);
        }
        debug_assert!(batches.next().is_none());
        if parts.is_empty() {
            return ops::affine(x.clone(), [0, rows], self.weight.clone(), self.bias.clone(), input_grad);
        }
        debug_assert_eq!(start, rows);
        debug_assert!(parts.iter().all(|part| part.dims()[1] == seq));
        if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 0) }
    }

    /// Output of a stack with a weight, a bias or a magnitude of its own on its rows of `x`, `[len, seq, d_out]`.
    fn own(
        &self,
        stack: &LinearStack,
        x: &Tensor<3>,
        own: [usize; 2],
        here: &StackPass,
        input_grad: &SharedInputGrad,
    ) -> Tensor<3> {
        let ([_, seq, _], [d_in, d_out]) = (x.dims(), self.shape());
        let gain = stack.adapter.as_ref().and_then(|adapter| adapter.bias_gain(&adapter.gate_of(here)));
        let frozen = self.bias.clone().filter(|_| stack.bias.is_none());
        let y = match (&stack.weight, &stack.adapter) {
            (Some(weight), _) => {
                // Its bias, where it has one, trains too and is added below.
                let input = ops::rows(x.clone(), own, input_grad).reshape([here.runs, own[1] * seq / here.runs, d_in]);
                input.matmul(cast(weight, x.dtype()))
            }
            (None, Some(adapter)) => {
                let frozen = frozen.filter(|_| gain.is_none());
                let form = adapter.form_of(here, &self.weight);
                let dropout = Dropout::at(here.keys.as_ref(), self.site, adapter.dropout);
                let terms = MapForward::new((x, own, input_grad), (&self.weight, frozen), form, here, dropout);
                adapter.combine.forward(&terms)
            }
            (None, None) => {
                let y = ops::affine(x.clone(), own, self.weight.clone(), frozen, input_grad);
                y.reshape([here.runs, own[1] * seq / here.runs, d_out])
            }
        }; // [runs, n, d_out]
        let bias = match (&stack.bias, &self.bias, gain) {
            (Some(own), _, None) => Some(own.clone()),
            (Some(own), _, Some(gain)) => Some(own.clone() * gain),
            (None, Some(frozen), Some(gain)) => Some(cast(frozen, gain.dtype()).unsqueeze::<3>() * gain),
            _ => None,
        };
        let y = match bias {
            Some(bias) => {
                let bias = cast(&bias, y.dtype());
                y + bias
            }
            None => y,
        };
        y.reshape([own[1], seq, d_out])
    }
}
