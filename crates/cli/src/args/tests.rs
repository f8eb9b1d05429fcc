//! What `--help` shows as an example can be typed.

use std::path::Path;

use clap::{CommandFactory as _, Parser as _};

use super::Args;

/// The examples in the help of a command and of those below it, without what follows as an explanation or goes to another program.
fn examples(command: &clap::Command) -> Vec<String> {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.strip_prefix("  lora-lab "));
    let mut found: Vec<String> = lines
        .map(|line| line.split(['|', '>']).next().unwrap_or_default())
        .map(|line| line.split("   ").next().unwrap_or_default().trim().to_owned())
        .collect();
    found.extend(command.get_subcommands().flat_map(examples));
    found
}

/// The words of a line as a shell makes them: apart by spaces, and `'query$'` without its quotes.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace().map(|word| word.trim_matches('\''))
}

#[test]
fn every_example_of_help_is_a_command_line() {
    let examples = examples(&Args::command());
    // As many as there are commands, at the least.
    assert!(examples.len() > 20, "{examples:?}");
    for line in &examples {
        if let Err(error) = Args::try_parse_from(["lora-lab"].into_iter().chain(words(line))) {
            panic!("`lora-lab {line}`: {error}");
        }
    }
}

#[test]
fn experiments_that_help_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let named = |word: &str| {
        let name = word.strip_prefix("experiments/").or_else(|| word.strip_prefix("exp/"))?;
        name.strip_suffix(".yaml").filter(|name| *name != "*").map(str::to_owned)
    };
    let examples = examples(&Args::command());
    let names: Vec<String> = examples.iter().flat_map(|line| words(line)).filter_map(named).collect();
    assert!(!names.is_empty());
    for name in names {
        assert!(root.join(format!("experiments/{name}.yaml")).is_file(), "no experiment `{name}`");
    }
}
