//! The command line: the list of commands. Each command's own arguments and help stand beside it in `commands/`.
//!
//! Flags choose which experiment and how much output. What changes a result lives in the YAML, or in `--set`, which is recorded.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::commands::{
    analyze::args::Analyze,
    check::Check,
    claims::Claims,
    combine::Combine,
    complete::{Completions, Man},
    eval::Eval,
    export::Export,
    figures::Figures,
    import::Import,
    init::Init,
    list::What,
    merge::Merge,
    predict::Predict,
    pretrain::Pretrain,
    report::Report,
    run::Run,
    table::Table,
    tensorboard::TensorBoard,
};

/// Research on low-rank adaptation: train a grid of LoRA variants and compare them with honest statistics.
#[derive(Debug, Parser)]
#[command(
    name = "lora-lab",
    version,
    after_help = "\
Examples:
  lora-lab run quick                               a first study, of seconds; it comes with the program
  lora-lab init                                    a commented experiment and an example task of your own
  lora-lab check experiments/dylora_glue.yaml      find every problem before anything runs
  lora-lab run experiments/dylora_glue.yaml        train what is missing, then print the table
  lora-lab table dylora_glue --format latex        print the same table for a paper
  lora-lab figures dylora_glue                     draw its figures as SVG, PDF and PNG
  lora-lab report dylora_glue                      write it as one HTML file to explore and to send
  lora-lab analyze phi RUN_A RUN_B --out phi.csv   compare the subspaces of two adapters
  lora-lab list variants                           see what can be written under `variants:`

`lora-lab COMMAND --help` explains a command with examples. Running the same command again continues: finished runs are
skipped, and an unfinished run resumes with the same bits.
Exit status: 0 done, 1 a run failed, 2 bad input, 130 interrupted (143 by SIGTERM, 138 by SIGUSR1)."
)]
pub(crate) struct Args {
    /// Folder that holds the results.
    #[arg(long, global = true, default_value = "results", value_name = "DIR")]
    pub results: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train every run of an experiment that has no record yet, then write its tables.
    Run(Run),
    /// Check experiments and report every problem at once; nothing is trained.
    Check(Check),
    /// Write a commented experiment and an example task, to begin from.
    Init(Init),
    /// List what an experiment can name (variants, tasks, models, experiments, devices), and which results there are.
    #[command(after_help = "\
Examples:
  lora-lab list variants       every preset with its paper
  lora-lab list tasks          every task with its metrics
  lora-lab list results        every study with a record, and how much of it is done")]
    List {
        /// What to list.
        what: What,
    },
    /// Show which devices this build supports, which are present, and which one `auto` takes.
    #[command(after_help = "\
Example:
  lora-lab devices             then `lora-lab run x.yaml --device tch:cuda:0`")]
    Devices,
    /// Write and print an experiment's tables from its records.
    Table(Table),
    /// Evaluate an adapter, of this program or of PEFT; a DyLoRA adapter at any rank.
    Eval(Eval),
    /// Predict with a trained adapter or a fine-tuned checkpoint: logits, a benchmark's submission file, or generated texts.
    Predict(Predict),
    /// Write a trained adapter as a smaller one, or as a folder for PEFT.
    Export(Export),
    /// Import a PEFT adapter.
    Import(Import),
    /// Merge a trained adapter into its base: a checkpoint that transformers opens, and how far its logits moved.
    Merge(Merge),
    /// Merge several adapters into one LoRA in PEFT's format: weighted sum, SVD, TIES, DARE, magnitude pruning.
    Combine(Combine),
    /// Measure the subspaces of adapters: overlap, angles, projection onto the base, spectra, magnitude and direction.
    #[command(subcommand)]
    Analyze(Analyze),
    /// Draw the figures of experiments from their records, and from their adapters where they are present.
    Figures(Figures),
    /// Write studies as one HTML file to explore and to send: tables, charts and every run, without any network.
    Report(Report),
    /// Write event files for TensorBoard: scalars over steps, hyperparameters with results, the YAML.
    Tensorboard(TensorBoard),
    /// Compare study results with the papers' reported numbers: target, found, difference, verdict.
    #[command(alias = "paper")]
    Claims(Claims),
    /// Pretrain the embedded base model from random weights.
    Pretrain(Pretrain),
    /// Print completions for a shell.
    Completions(Completions),
    /// Print the manual's page.
    Man(Man),
    /// Print the JSON Schema of an experiment, by which editors complete its file.
    #[command(after_help = "\
Example:
  lora-lab schema > experiment.schema.json       then begin a file with `# yaml-language-server: $schema=experiment.schema.json`")]
    Schema,
}

/// Formats of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for a terminal.
    Text,
    /// summary.csv.
    Csv,
    /// Markdown, for a README.
    Markdown,
    /// LaTeX with booktabs, for a paper.
    Latex,
}

/// Reads the command line; `--help` and mistakes end the process as clap does.
pub(crate) fn parse() -> Args {
    Args::parse()
}

#[cfg(test)]
mod tests;
