//! `check`: every problem of every file, before a device is touched.

use super::read;
use crate::{
    args::Check,
    terminal::{Failure, print},
};

/// Checks all files; fails if one has a problem.
pub(super) fn run(args: &Check) -> Result<(), Failure> {
    let mut problems = Vec::new();
    for path in &args.experiments {
        match read(path, &args.set) {
            Ok(experiment) => print(&format!("{}: {} cells, no problems\n", path.display(), experiment.cells().len())),
            Err(Failure::Input(message)) => problems.push(message),
            Err(other) => return Err(other),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Input(problems.join("\nerror: "))) }
}
