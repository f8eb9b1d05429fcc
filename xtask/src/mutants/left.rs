//! Has cargo-mutants itself ask about what cannot be switched while the program runs.

use std::{path::Path, process::Command};

use super::{
    WORK,
    build::target,
    list::{Mutant, mutants},
    outcomes::Outcome,
    report::known,
    say,
};

/// Characters that mean something in a regular expression.
const SPECIAL: &str = "\\.+*?()|[]{}^$#&-~";

/// Runs cargo-mutants on the mutants that are programs and not behind a switch, where it has not done so.
pub(super) fn left(root: &Path) -> Result<(), String> {
    let tree = root.join(WORK).join("tree");
    super::tree::with_modules(root, &tree)?;
    let list = mutants(&tree)?;
    let known = known(root, &list)?;
    let left: Vec<&Mutant> =
        list.iter().filter(|mutant| known.get(&mutant.key()) == Some(&Outcome::CannotBeSwitched)).collect();
    if left.is_empty() {
        return Ok(());
    }
    say(&format!("{} mutants are left to cargo-mutants, which compiles each", left.len()));
    let mut command = Command::new("cargo");
    command.args(["mutants", "--workspace", "--dir"]).arg(&tree).arg("--output").arg(root.join(WORK).join("left"));
    for mutant in left {
        let name = format!("{}:{}: {}", mutant.file, mutant.at, mutant.change);
        let quoted = |letter: char| if SPECIAL.contains(letter) { format!("\\{letter}") } else { letter.to_string() };
        // cargo-mutants 27.1 holds deleted fields against no `--re`, so the files keep those of other files out.
        command.arg("--file").arg(&mutant.file);
        command.arg("--re").arg(format!("^{}$", name.chars().map(quoted).collect::<String>()));
    }
    // It fails where a mutant survives, which the report says.
    command
        .env("CARGO_TARGET_DIR", target(root))
        .status()
        .map(|_| ())
        .map_err(|error| format!("cargo mutants: {error}"))
}
