//! `lora-lab`: research on low-rank adaptation from the command line.

mod args;
mod commands;
mod failure;
mod identity;
mod output;
mod progress;
mod signals;
mod terminal;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match commands::run(args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
