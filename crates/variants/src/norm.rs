//! Layer norm and root-mean-square norm whose gain and bias may be per-run copies.

use burn::tensor::{DType, FloatDType, Tensor, module::layer_norm};
use kernels::ops::{self, Dropout, SharedInputGrad};

use crate::{
    base::{BaseSpec, BiasSpec},
    host::cast,
    pass::{Pass, join, split},
    role::{Param, Role},
    slot::{StackPlan, copies},
};

/// `y = γ·(x − mean)/√(var + ε) + β`, or without `β` `y = γ·x/√(mean(x²) + ε)` (Zhang and Sennrich 2019, arXiv:1910.07467), with
/// frozen `γ`, `β` or each run's own.
#[derive(Clone, Debug)]
pub struct AdaptedNorm {
    name: String,
    /// `[d]`
    gamma: Tensor<1>,
    /// `[d]`; none makes it a root-mean-square norm.
    beta: Option<Tensor<1>>,
    epsilon: f64,
    stacks: Vec<NormStack>,
}

#[derive(Clone, Debug, Default)]
struct NormStack {
    /// `[runs, 1, d]`
    gamma: Option<Tensor<3>>,
    /// `[runs, 1, d]`
    beta: Option<Tensor<3>>,
}

impl AdaptedNorm {
    /// A frozen layer norm.
    pub fn new(name: impl Into<String>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Self {
        Self { name: name.into(), gamma, beta: Some(beta), epsilon, stacks: Vec::new() }
    }

    /// A frozen root-mean-square norm.
    pub fn root_mean_square(name: impl Into<String>, gamma: Tensor<1>, epsilon: f64) -> Self {
        Self { name: name.into(), gamma, beta: None, epsilon, stacks: Vec::new() }
    }

    /// `x` without gain and bias, `[rows, seq, d]`.
    fn normed(&self, x: Tensor<3>) -> Tensor<3> {
        if self.beta.is_some() {
            return layer_norm(x, self.gamma.ones_like(), None, self.epsilon);
        }
        let width = x.dtype();
        let x = if matches!(width, DType::F32 | DType::F64) { x } else { x.cast(FloatDType::F32) };
        let square = x.clone().square().mean_dim(2); // [rows, seq, 1]
        cast(&(x / (square + self.epsilon).sqrt()), width)
    }

    /// Full name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn attach(&mut self, plan: &StackPlan) {
        let runs = plan.runs.len();
        let spec = plan.variant.spec();
        let trained = plan.trains_fully(&self.name) || spec.base == BaseSpec::Norms;
        self.stacks.push(NormStack {
            gamma: trained.then(|| copies(&self.gamma, runs)),
            beta: self.beta.as_ref().filter(|_| trained || spec.bias == BiasSpec::All).map(|beta| copies(beta, runs)),
        });
    }

    pub(crate) fn parameters(&mut self, stack: usize) -> Vec<Param<'_>> {
        let stack = &mut self.stacks[stack];
        let gamma = stack.gamma.as_mut().map(|t| Param::new("weight", Role::Norm, t));
        let beta = stack.beta.as_mut().map(|t| Param::new("bias", Role::Bias, t));
        gamma.into_iter().chain(beta).collect()
    }

    /// `[rows, seq, d] -> [rows, seq, d]`.
    pub fn forward(&self, x: Tensor<3>, pass: &Pass) -> Tensor<3> {
        self.after(x, None, None, pass)
    }

    /// The norm of `residual + dropout(x)`, `[rows, seq, d]` each: one kernel where the norm is frozen.
    ///
    /// The residual comes with its other uses.
    pub fn after(
        &self,
        x: Tensor<3>,
        residual: Option<(Tensor<3>, &SharedInputGrad)>,
        drop: Option<Dropout>,
        pass: &Pass,
    ) -> Tensor<3> {
        let [rows, seq, d] = x.dims();
        let frozen = self.stacks.iter().all(|stack| stack.gamma.is_none() && stack.beta.is_none());
        if let (true, Some(beta)) = (frozen, &self.beta) {
            return ops::add_norm(x, residual, self.gamma.clone(), beta.clone(), self.epsilon, drop);
        }
        let dropped = ops::dropout(x, drop);
        let x = match residual {
            Some((residual, _)) => residual + dropped,
            None => dropped,
        };
        if frozen {
            return self.normed(x) * self.gamma.clone().reshape([1, 1, d]);
        }
        let x = self.normed(x);
        let own = |copy: &Option<Tensor<3>>, base: &Tensor<1>| {
            copy.as_ref().map_or_else(|| base.clone().reshape([1, 1, d]), |copy| cast(copy, base.dtype()))
        };
        let parts = split(&x, pass).into_iter().zip(&self.stacks).map(|(part, stack)| {
            let scaled = part * own(&stack.gamma, &self.gamma); // [runs, n, d]
            match &self.beta {
                Some(beta) => scaled + own(&stack.beta, beta),
                None => scaled,
            }
        });
        join(parts.collect(), rows, seq)
    }

    /// `γ` and `β` of one run, `[d]` each.
    pub fn merged(&self, stack: usize, run: usize) -> (Tensor<1>, Option<Tensor<1>>) {
        let own = |copy: &Option<Tensor<3>>, base: &Tensor<1>| match copy {
            Some(copy) => cast(copy, base.dtype()).slice([run..run + 1]).reshape(base.shape()),
            None => base.clone(),
        };
        let stack = &self.stacks[stack];
        (own(&stack.gamma, &self.gamma), self.beta.as_ref().map(|beta| own(&stack.beta, beta)))
    }

    /// A frozen norm with one run's copies in place and no stacks.
    pub fn merge(&self, stack: usize, run: usize) -> Self {
        let (gamma, beta) = self.merged(stack, run);
        Self { gamma, beta, stacks: Vec::new(), ..self.clone() }
    }

    /// The same norm with one of its stacks alone.
    pub fn only(&self, stack: usize) -> Self {
        Self { stacks: vec![self.stacks[stack].clone()], ..self.clone() }
    }

    /// The base's `γ` and `β`, without stacks.
    pub fn base(&self) -> (Tensor<1>, Option<Tensor<1>>) {
        (self.gamma.clone(), self.beta.clone())
    }

    /// Takes all stacks off; the base is as it was.
    pub fn detach(&mut self) {
        self.stacks.clear();
    }
}
