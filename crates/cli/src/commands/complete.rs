//! `completions`, `man` and `schema`: what shells, `man` and editors know the program by.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use record::write_atomic;

use crate::{
    args::Args,
    failure::Failure,
    output::create_folder,
    terminal::{note, print},
};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab completions bash > ~/.local/share/bash-completion/completions/lora-lab
  lora-lab completions zsh > ~/.zfunc/_lora-lab
  lora-lab completions fish > ~/.config/fish/completions/lora-lab.fish")]
pub(crate) struct Completions {
    /// The shell.
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lora-lab man | man -l -
  lora-lab man --out ~/.local/share/man/man1       a page for every command")]
pub(crate) struct Man {
    /// Write a page for every command into this folder.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Prints a shell's completions.
pub(super) fn completions(args: &Completions) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "lora-lab", &mut text);
    print(&String::from_utf8_lossy(&text))
}

/// Prints the manual's page, or writes one for every command.
pub(super) fn man(args: &Man) -> Result<(), Failure> {
    let page = |command: clap::Command| {
        let mut text = Vec::new();
        clap_mangen::Man::new(command).render(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let mut command = Args::command();
    command.build();
    let Some(folder) = &args.out else { return print(&String::from_utf8_lossy(&page(command)?)) };
    create_folder(folder)?;
    for under in command.get_subcommands().filter(|under| !under.is_hide_set()) {
        let name = format!("lora-lab-{}", under.get_name());
        write_atomic(&folder.join(format!("{name}.1")), &page(under.clone())?)?;
    }
    write_atomic(&folder.join("lora-lab.1"), &page(command)?)?;
    note(&format!("wrote the pages to {}", folder.display()));
    Ok(())
}

/// Prints the JSON Schema of an experiment.
pub(super) fn schema() -> Result<(), Failure> {
    print(&experiment::schema::text())
}
