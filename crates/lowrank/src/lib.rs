//! Weight updates on the host: `ΔW = down·up` as two factors, or dense where an update has none, with their decompositions.
//!
//! A low-rank update is decomposed without forming `ΔW`. QR of both factors, `down = Q_d R_d` and `upᵀ = Q_u R_u`, leaves a core
//! `R_d R_uᵀ` of at most `[k, k]`; with its SVD `X Σ Yᵀ`, `ΔW = (Q_d X) Σ (Q_u Y)ᵀ`. That costs `O((d_in + d_out) k² + k³)` instead of
//! `O(d_in d_out min(d_in, d_out))`. [`Update::truncated`] keeps the first `r` terms: the best approximation of rank `r` in Frobenius
//! norm (Eckart and Young 1936), whose error is `√Σ_{j>r} σ_j²`.
//!
//! Matrices are nalgebra's, column-major, in f64. faer computes every product and decomposition ([`linalg`]).

pub mod error;
pub mod linalg;
mod low_rank;
mod truncate;
mod update;

pub use low_rank::{Decomposition, LowRank};
pub use truncate::Truncated;
pub use update::Update;
