//! Keeps the workspace tidy: what no compiler checks. `just tidy` runs it, and so does `just test`; `just documents` puts the
//! present tables into the documents that show them and writes the guide's pages of methods; `just mutants` breaks the code and asks
//! whether a test notices.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

mod documents;
mod edges;
mod files;
mod harvest;
mod keys;
mod links;
mod markdown;
mod methods;
mod mutants;
mod notebooks;
mod tidy;
mod unsafe_code;
mod words;

#[expect(clippy::print_stderr, reason = "a task speaks to the person who runs it")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let problems = match arguments.as_slice() {
        ["documents"] => documents::write(&root()).err().map(|error| error.to_string()).into_iter().collect(),
        ["breaks", only @ ..] => mutants::try_breaks(&root(), only.first().copied()).err().into_iter().collect(),
        ["ask", arguments @ ..] => mutants::ask(&root(), arguments).err().into_iter().collect(),
        ["left"] => mutants::left(&root()).err().into_iter().collect(),
        ["tree"] => mutants::tree(&root()).err().into_iter().collect(),
        ["mutants"] => mutants::report(&root()).err().into_iter().collect(),
        _ => [tidy::problems(&root()), documents::behind(&root()), mutants::stale(&root())].concat(),
    };
    for problem in &problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_workspace_is_tidy() {
        let problems = super::tidy::problems(&super::root());
        assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    }

    #[test]
    fn every_break_changes_its_file_once() {
        let problems = super::mutants::stale(&super::root());
        assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    }
}
