//! Keeps the workspace tidy: what no compiler checks. `just tidy` runs it, and so does `just test`; `just documents` puts the
//! present tables into the documents that show them and writes the guide's pages of methods.

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
mod tidy;
mod words;

#[expect(clippy::print_stderr, reason = "a task speaks to the person who runs it")]
fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|what| what == "documents") {
        return match documents::write(&root()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let mut problems = tidy::problems(&root());
    problems.extend(documents::behind(&root()));
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
}
