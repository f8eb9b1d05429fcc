//! A product of two factors, and its decomposition without the dense `ΔW`.

use nalgebra::DMatrix;

use crate::{
    error::{UpdateError, check},
    linalg::{Backend, ThinSvd, product, product_transposed},
};

/// `ΔW = down·up`, `[d_in, d_out]`, the scale folded in, with `down: [d_in, k]` and `up: [k, d_out]`, all finite.
///
/// `k` may exceed `d_in` or `d_out`. The LoRA paper's `A` is `downᵀ` and its `B` is `upᵀ`; messages call the factors `a` and `b`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    down: DMatrix<f64>,
    up: DMatrix<f64>,
}

impl LowRank {
    /// Checks the factors: `down: [d_in, k]`, `up: [k, d_out]`.
    pub fn new(down: DMatrix<f64>, up: DMatrix<f64>) -> Result<Self, UpdateError> {
        check("a", &down)?;
        check("b", &up)?;
        if down.ncols() != up.nrows() {
            let ((a_rows, a_cols), (b_rows, b_cols)) = (down.shape(), up.shape());
            return Err(UpdateError::Factors { a_rows, a_cols, b_rows, b_cols });
        }
        Ok(Self { down, up })
    }

    /// From factors that were computed from checked ones.
    pub(crate) fn from_parts(down: DMatrix<f64>, up: DMatrix<f64>) -> Self {
        debug_assert_eq!(down.ncols(), up.nrows(), "the factors have one width");
        Self { down, up }
    }

    /// The input factor, `[d_in, k]`.
    pub fn down(&self) -> &DMatrix<f64> {
        &self.down
    }

    /// The output factor, `[k, d_out]`.
    pub fn up(&self) -> &DMatrix<f64> {
        &self.up
    }

    /// The width `k` between the factors.
    pub fn width(&self) -> usize {
        self.down.ncols()
    }

    /// `(d_in, d_out)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.down.nrows(), self.up.ncols())
    }

    /// `ΔW`, `[d_in, d_out]`.
    pub fn dense(&self) -> DMatrix<f64> {
        product(&self.down, &self.up)
    }

    /// `‖ΔW‖_F`, 0 for an untrained update.
    pub fn norm(&self) -> f64 {
        let r_down = Backend::default().qr(&self.down).1;
        let r_up = Backend::default().qr(&self.up.transpose()).1;
        product_transposed(&r_down, &r_up).norm()
    }

    /// `Σ w_i·ΔW_i` as one product, `[w_1·down_1 … w_n·down_n]` times `[up_1; …; up_n]`. The updates are of one map; at least one is there.
    pub fn weighted_sum(terms: &[(f64, &Self)]) -> Self {
        let width = terms.iter().map(|(_, term)| term.width()).sum();
        let (d_in, d_out) = terms[0].1.shape();
        let (mut down, mut up) = (DMatrix::zeros(d_in, width), DMatrix::zeros(width, d_out));
        let mut from = 0;
        for (weight, term) in terms {
            down.columns_mut(from, term.width()).copy_from(&(&term.down * *weight));
            up.rows_mut(from, term.width()).copy_from(&term.up);
            from += term.width();
        }
        Self { down, up }
    }

    /// `ΔW - ΔW'` of two updates of one map, as one product.
    pub fn minus(&self, other: &Self) -> Self {
        Self::weighted_sum(&[(1.0, self), (1.0, &Self { down: other.down.clone(), up: -&other.up })])
    }

    /// The SVD of `ΔW` from the SVD of a core `[k, k]` at most.
    pub fn decompose(&self) -> Result<Decomposition, UpdateError> {
        self.decompose_with(Backend::default())
    }

    /// [`LowRank::decompose`] by a named library.
    pub fn decompose_with(&self, backend: Backend) -> Result<Decomposition, UpdateError> {
        let (q_down, r_down) = backend.qr(&self.down); // [d_in, p], [p, k]
        let (q_up, r_up) = backend.qr(&self.up.transpose()); // [d_out, q], [q, k]
        let core = backend.svd(&product_transposed(&r_down, &r_up))?; // of [p, q]
        Ok(Decomposition { frames: Some((q_down, q_up)), core })
    }
}

/// The SVD of an update, `ΔW = (Q_d X) Σ (Q_u Y)ᵀ`, whose directions are multiplied out only as far as somebody wants them.
#[derive(Clone, Debug)]
pub struct Decomposition {
    /// `Q_d: [d_in, p]` and `Q_u: [d_out, q]`; none where the SVD is that of a dense matrix.
    pub(crate) frames: Option<(DMatrix<f64>, DMatrix<f64>)>,
    /// `X Σ Yᵀ`
    pub(crate) core: ThinSvd,
}

impl Decomposition {
    /// Every singular value, descending; those of a numerical rank below `k` are rounding errors.
    pub fn values(&self) -> &[f64] {
        &self.core.values
    }

    /// The leading `count` triplets.
    pub fn first(&self, count: usize) -> ThinSvd {
        let left = self.core.left.columns(0, count).into_owned();
        let right = self.core.right.columns(0, count).into_owned();
        let values = self.core.values[..count].to_vec();
        match &self.frames {
            None => ThinSvd { left, values, right },
            Some((q_down, q_up)) => ThinSvd { left: product(q_down, &left), values, right: product(q_up, &right) },
        }
    }
}
