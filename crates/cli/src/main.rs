//! `lora-lab`: research on low-rank adaptation from the command line.

mod args;
mod commands;
mod failure;
mod identity;
mod output;
mod progress;
mod shipped;
mod signals;
mod terminal;

use std::process::ExitCode;

use trainer::study::is_out_of_memory;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = args::parse();
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A full device says so by a panic; the study halves its cohort, and what else runs on a device ends below.
        if !is_out_of_memory(panic.payload()) {
            print(panic);
        }
    }));
    match std::panic::catch_unwind(|| commands::run(args)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.report(),
        Err(panic) if is_out_of_memory(panic.as_ref()) => {
            terminal::note("error: the device's memory is full; free it, or choose another `--device`");
            ExitCode::from(1)
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
