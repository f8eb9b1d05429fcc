//! Rows that repeat: `ΔW[i, :] = s·D[i mod rank, :]`.
//!
//! `D: [runs, rank, d_out]` trains and starts at zero: `rank·d_out` numbers per map. As a product, `ΔW = s·P·D` with the constant
//! `P[i, p] = 1` where `i mod rank = p`: rows of the input are summed into `rank` numbers and pass `D`. The inputs need not be a multiple of the
//! rank; the last of them start the cycle again.
//!
//! With `columns` the columns repeat as well, `ΔW[i, j] = s·D[i mod rank, j mod columns]` with `D: [runs, rank, columns]`, PEFT's
//! `init_weights: mini` (its `mini_r`).
//!
//! There is no scale in the paper or in PEFT: `s = 1`. Nothing is drawn.
//!
//! Kang and Yin, *MiSS: Revisiting the Trade-off in LoRA with an Efficient Shard-Sharing Structure* (first *Balancing LoRA Performance and
//! Efficiency with Simple Shard Sharing*), arXiv:2409.15371.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Delta, DeltaRecipe, Site};
use crate::{
    capability::Capability,
    error::SpecProblem,
    form::{Chain, Form},
    peft::{Field, PeftForm, TunedMap, Tuner, TunerConfig, TunerTensor},
    role::{Param, Role},
};

/// Whether columns repeat as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// After how many columns `ΔW` repeats; never where absent. Divides the output width.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<usize>,
}

/// The rows that repeat.
#[derive(Clone, Debug)]
pub struct ShardSharing {
    /// `D`, `[runs, rank, d_out]` or `[runs, rank, columns]`.
    pub block: Tensor<3>,
    /// How often the columns repeat.
    repeats: usize,
    /// `P`, which every run shares, `[1, d_in, rank]`.
    of_rows: Tensor<3>,
}

impl DeltaRecipe for Spec {
    type Delta = ShardSharing;
    const RANK_BOUNDED: bool = false; // by the input width alone
    const PROVIDES: &'static [Capability] = &[Capability::OwnRanks];
    const LACKS: &'static [(Capability, &'static str)] =
        &[(Capability::DrawnFactors, "whose only trained tensor starts at zero")];
    const ROLES: &'static [Role] = &[Role::B];

    fn check(&self) -> Vec<SpecProblem> {
        match self.columns {
            Some(0) => {
                vec![SpecProblem::new(
                    "columns",
                    "columns is `0`, but must be at least 1; leave it out to repeat rows alone",
                )]
            }
            _ => Vec::new(),
        }
    }

    fn misfit(&self, rank: usize, [d_in, d_out]: [usize; 2]) -> Option<String> {
        if rank > d_in {
            return Some(format!("rank `{rank}` is above the input width, after which rows repeat; use 1..={d_in}"));
        }
        let columns = self.columns.filter(|columns| !d_out.is_multiple_of(*columns))?;
        let near = (1..=columns.min(d_out)).rev().find(|n| d_out.is_multiple_of(*n)).unwrap_or(1);
        Some(format!("columns is `{columns}`, but must divide the output width; use `{near}` or leave it out"))
    }

    fn peft(&self) -> Option<PeftForm> {
        let init = self.columns.map_or_else(|| json!(true), |_| json!("mini"));
        let mini = self.columns.map_or_else(|| Field::Passive(json!(1)), |columns| Field::Fixed(json!(columns)));
        let fields = vec![
            ("r", Field::Rank),
            ("miss_dropout", Field::Dropout),
            ("init_weights", Field::Fixed(init)),
            ("mini_r", mini),
        ];
        Some(PeftForm::Tuner(Tuner { peft_type: "MISS", fields }))
    }

    fn peft_tensors(&self, TunedMap { shape: [_, d_out], rank, .. }: TunedMap<'_>) -> Vec<TunerTensor> {
        vec![TunerTensor::shaped("block", "miss_block", [rank, self.columns.unwrap_or(d_out)])]
    }

    fn of_peft(config: TunerConfig<'_>) -> Option<Self> {
        let columns = match config.text("init_weights") {
            Some("mini") => Some(config.count("mini_r").unwrap_or(1)),
            Some(_) => return None,
            None => None,
        };
        config.is("MISS").then_some(Self { columns })
    }

    fn init(&self, at: &mut Site<'_>) -> ShardSharing {
        let ([d_in, d_out], rank) = (at.shape, at.rank);
        let columns = self.columns.unwrap_or(d_out);
        let cycle = |i: usize| (0..rank).map(move |p| f64::from(u8::from(i % rank == p)));
        ShardSharing {
            block: at.zeros(rank, columns),
            repeats: d_out / columns,
            of_rows: at.place.tensor((0..d_in).flat_map(cycle).collect(), [1, d_in, rank]),
        }
    }
}

impl Delta for ShardSharing {
    fn parameters(&mut self) -> Vec<Param<'_>> {
        vec![Param::ranked("block", Role::B, 1, &mut self.block)]
    }

    fn form(&self, gate: &Tensor<3>, _base: &Tensor<2>) -> Form {
        let runs = self.block.dims()[0];
        Form::LowRank(Chain {
            down: self.of_rows.clone().expand([runs as i64, -1, -1]),
            middle: gate.clone(),
            up: self.block.clone().repeat_dim(2, self.repeats),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misfit_names_the_way_out() {
        let says = |columns, rank, shape| Spec { columns }.misfit(rank, shape).unwrap_or_default();
        assert_eq!(says(None, 5, [7, 3]), "");
        assert_eq!(says(Some(3), 5, [7, 6]), "");
        assert_eq!(says(None, 8, [7, 9]), "rank `8` is above the input width, after which rows repeat; use 1..=7");
        let columns = "columns is `4`, but must divide the output width; use `3` or leave it out";
        assert_eq!(says(Some(4), 5, [7, 6]), columns);
    }
}
