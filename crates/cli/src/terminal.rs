//! Lines on stderr and stdout.

use std::io::Write;

use crate::failure::Failure;

/// One line to stderr. A closed stderr is no reason to stop.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Text to stdout; a closed pipe ends the output quietly, any other refusal is an error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Run(anyhow::anyhow!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}
