//! Objectives: what a run's loss is, and what it reads of a micro-batch and of the model.
//!
//! An objective is one file below `objective/` and one line of `objectives!`. The file says which arrays the loss reads
//! ([`Objective::Inputs`]), how they come from a stack's examples ([`Objective::collate`]), which logits it needs ([`Objective::reads`])
//! and what the loss is ([`Objective::loss`]). Everything else (upload, recording, packing, gradients) follows from these.

use burn::tensor::{Int, Tensor};
use models::tokens::Transfer;

use crate::rows::RunRows;

/// Logits that a loss reads.
#[derive(Clone, Copy, Debug)]
pub enum Reads<'a> {
    /// Those of the classification head, one vector per row: `[runs, rows, outputs]`.
    Rows,
    /// Those of the token after each of these positions, flat within the stack's padded rows, `[runs · n]`: `[runs, n, vocabulary]`.
    NextToken(&'a Tensor<1, Int>),
    /// Those of the masked tokens at these positions, flat, `[n]`, in a cohort of one run: `[1, n, vocabulary]`.
    MaskedToken(&'a Tensor<1, Int>),
}

/// A loss.
///
/// To add one, for instance a focal loss: write `objective/focal.rs` with a type that implements this trait ([`classification`] is the model
/// to follow), and add `focal::Focal` to the list in `objectives!`. Its `collate` says which runs of a stack it serves, by the task's own
/// [`data::task::Objective`] and what the recipe asks for; [`classification`] then has to leave these runs to it, since the losses of a
/// run are added up. A loss that is another one's with other targets, as label smoothing is, needs no file of its own.
///
/// The runs of a stack may have different objectives. Each of them then gets the logits of all runs, gives 0 for the runs that it does not
/// serve, and the losses are added up.
pub trait Objective {
    /// What the loss reads of a micro-batch of one stack: arrays of whole numbers (`I`) and numbers (`F`).
    type Inputs<I, F>;

    /// Whether [`Reads::Rows`] is what it reads, so that rows may be packed.
    const READS_ROWS: bool;

    /// The inputs on the host, from the rows of a stack's runs, each padded to `seq` tokens; none where the objective serves no run. The
    /// default serves none, for an objective whose batches are made elsewhere.
    fn collate(_runs: &[RunRows<'_>], _seq: usize) -> Option<Self::Inputs<Vec<i64>, Vec<f64>>> {
        None
    }

    /// The same inputs with every array carried to another place.
    fn map<I, F, T: Transfer<I, F>>(inputs: Self::Inputs<I, F>, to: &mut T) -> Self::Inputs<T::Ints, T::Floats>;

    /// The logits that it reads.
    fn reads(inputs: &Self::Inputs<Tensor<1, Int>, Tensor<1>>) -> Reads<'_>;

    /// Mean loss of every run over its examples or tokens, `[runs]`, from the logits.
    fn loss(inputs: &Self::Inputs<Tensor<1, Int>, Tensor<1>>, logits: Tensor<3>) -> Tensor<1>;
}

macro_rules! objectives {
    ($($file:ident :: $Name:ident),+ $(,)?) => {
        $(pub mod $file;)+

        /// What the loss of one stack reads of a micro-batch.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is documented in its own file")]
        pub enum LossInputs<I, F> { $($Name(<$file::$Name as Objective>::Inputs<I, F>)),+ }

        impl LossInputs<Vec<i64>, Vec<f64>> {
            /// The inputs of every objective that serves a run of this stack, rows padded to `seq` tokens.
            pub fn collate(runs: &[RunRows<'_>], seq: usize) -> Vec<Self> {
                [$($file::$Name::collate(runs, seq).map(Self::$Name)),+].into_iter().flatten().collect()
            }
        }

        impl<I, F> LossInputs<I, F> {
            /// The same inputs with every array carried to another place.
            pub fn map<T: Transfer<I, F>>(self, to: &mut T) -> LossInputs<T::Ints, T::Floats> {
                match self { $(Self::$Name(inputs) => LossInputs::$Name($file::$Name::map(inputs, to))),+ }
            }

            /// Whether the loss reads one vector of logits per row.
            pub fn reads_rows(&self) -> bool {
                match self { $(Self::$Name(_) => $file::$Name::READS_ROWS),+ }
            }
        }

        impl LossInputs<Tensor<1, Int>, Tensor<1>> {
            /// The logits that the loss reads.
            pub fn reads(&self) -> Reads<'_> {
                match self { $(Self::$Name(inputs) => $file::$Name::reads(inputs)),+ }
            }

            /// Mean loss of every run, `[runs]`.
            pub fn loss(&self, logits: Tensor<3>) -> Tensor<1> {
                match self { $(Self::$Name(inputs) => $file::$Name::loss(inputs, logits)),+ }
            }
        }
    };
}

// The losses of a stack are added up in this order.
objectives! {
    classification::Classification,
    regression::Regression,
    causal::Causal,
    masked::Masked,
}

#[cfg(test)]
mod tests;
