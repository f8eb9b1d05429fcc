//! A trained core between frozen singular factors of the base: `ΔW = s·A·R·B`.
//!
//! With the thin decomposition `W0 = U·S·Vᵀ` (`W0: [d_in, d_out]`, values descending), `A = U_r·S_r` `[runs, d_in, rank]` and
//! `B = V_rᵀ` `[runs, rank, d_out]` hold the first `rank` triplets and never train; `W0` itself stays as it is. The core `R: [runs, rank, rank]`
//! trains: `rank²` numbers per map, whatever its widths. `R = I/s` would add the best approximation of `W0` at that rank to it.
//!
//! `R` is drawn from `init`, LoRA-XS' `N(0, 1e-5²)`. So the start is `W0` but for a change of that size:
//! `‖ΔW‖ ≤ s·‖W0‖·‖R‖` in Frobenius norms. A core of zeros would start at `W0` exactly and have a gradient all the same; the paper draws it.
//!
//! `A` and `B` are saved with the adapter, because a decomposition made on another machine differs in its last bits and may differ in signs.
//! Rows pass `A·R` and `B`.
//!
//! Bałazy et al., *LoRA-XS: Low-Rank Adaptation with Extremely Small Number of Parameters*, 2024, arXiv:2405.17604, Eq. 2 and Section 3.

use burn::tensor::Tensor;
use faer::MatRef;
use serde::{Deserialize, Serialize};

use super::{Delta, DeltaRecipe, Site, scale};
use crate::{
    capability::{Capability, Requirement},
    form::{Chain, Form},
    host::values,
    init::{AnyInit, Init},
    role::{Param, Role},
};

/// No parameters of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

/// Two frozen factors and a core per run.
#[derive(Clone, Debug)]
pub struct SingularCore {
    /// `U_r·S_r`, frozen, `[runs, d_in, rank]`.
    pub a: Tensor<3>,
    /// `R`, `[runs, rank, rank]`.
    pub core: Tensor<3>,
    /// `V_rᵀ`, frozen, `[runs, rank, d_out]`.
    pub b: Tensor<3>,
}

/// `U_r·S_r` `[d_in, rank]` and `V_rᵀ` `[rank, d_out]`, row-major, in f64 on the host.
fn principal(weight: &[f64], [d_in, d_out]: [usize; 2], rank: usize) -> (Vec<f64>, Vec<f64>) {
    // A base with numbers that are not finite has no decomposition; its factors are not finite either, which a run's first step says.
    let Ok(svd) = MatRef::from_row_major_slice(weight, d_in, d_out).thin_svd() else {
        return (vec![f64::NAN; d_in * rank], vec![f64::NAN; rank * d_out]);
    };
    let (u, s, v) = (svd.U(), svd.S().column_vector(), svd.V());
    let a = (0..d_in).flat_map(|row| (0..rank).map(move |i| u[(row, i)] * s[i]));
    let b = (0..rank).flat_map(|i| (0..d_out).map(move |column| v[(column, i)]));
    (a.collect(), b.collect())
}

impl DeltaRecipe for Spec {
    type Delta = SingularCore;
    const PROVIDES: &'static [Capability] = &[Capability::DrawnFactors, Capability::OwnRanks];
    const REQUIRES: &'static [Requirement] = &[Requirement {
        needs: Capability::ConstantRank,
        rule: "the middle of `singular_core` mixes all components; use it with `rank_policy: {kind: constant}`",
    }];
    const ROLES: &'static [Role] = &[Role::Core, Role::Projection];
    const EXACT_START: bool = false;

    /// `‖R‖` of `rank²` normal numbers is near `rank·std`; three times that is never met.
    fn start_share(&self, init: &AnyInit, rank: usize) -> f64 {
        3.0 * init.std(rank, rank) * rank as f64
    }

    fn init(&self, at: &mut Site<'_>) -> SingularCore {
        let ([d_in, d_out], rank, runs) = (at.shape, at.rank, at.seeds.len());
        let core = at.drawn("core", rank);
        if at.is_given() {
            return SingularCore { a: at.zeros(d_in, rank), core, b: at.zeros(rank, d_out) };
        }
        let (a, b) = principal(&values(at.weight), at.shape, rank);
        let (a, b) = (at.place.tensor::<3>(a, [1, d_in, rank]), at.place.tensor::<3>(b, [1, rank, d_out]));
        SingularCore { a: a.repeat_dim(0, runs), core, b: b.repeat_dim(0, runs) }
    }
}

impl Delta for SingularCore {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![
            Param::new("a", Role::Projection, &mut self.a),
            Param::new("core", Role::Core, &mut self.core),
            Param::new("b", Role::Projection, &mut self.b),
        ]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let down = self.a.clone().matmul(self.core.clone());
        Form::LowRank(Chain { middle: scale(gate, down.dims()[2]), down, up: self.b.clone() })
    }
}
