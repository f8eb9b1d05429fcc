//! What the cells of a study cost, and how many workers and how much of their time it takes.
//!
//! Nothing here trains, reads or writes: costs come from what past runs took ([`cost`]), a grid is cut into cohorts ([`split`]) and into the
//! tasks of a job array ([`array`]) by them, and a fleet of workers that take cohorts in an order can be simulated ([`fleet`]).

pub mod array;
pub mod cost;
pub mod fleet;
pub mod split;

pub use array::{Cut, Demand, LEAST_MINUTES, cut, longest_first};
pub use cost::{Basis, CostModel, Estimate, Taken};
pub use fleet::{Fleet, Simulated};
pub use split::{Group, split};
