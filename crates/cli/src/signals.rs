//! Signals that ask a study to stop: it saves, and the process ends with 128 and the signal's number, as shells have it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag::{register, register_conditional_shutdown, register_usize},
};

/// What has been asked.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    asked: Arc<AtomicBool>,
    /// The first signal that asked, 0 while none has.
    which: Arc<AtomicUsize>,
}

/// Signals that ask to stop. Batch systems send the last one some time before they kill.
fn all() -> Vec<i32> {
    let mut all = vec![SIGINT, SIGTERM];
    #[cfg(unix)]
    all.push(signal_hook::consts::SIGUSR1);
    all
}

impl Signals {
    /// Listens from here on. A second signal ends the process at once, whatever it is doing: files are written whole or not at all.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let signals = Self::default();
        for signal in all() {
            register_conditional_shutdown(signal, status(signal), Arc::clone(&signals.asked))?;
            register_usize(signal, Arc::clone(&signals.which), signal.unsigned_abs() as usize)?;
            register(signal, Arc::clone(&signals.asked))?;
        }
        Ok(signals)
    }

    /// Set once somebody has asked.
    pub(crate) fn asked(&self) -> &AtomicBool {
        &self.asked
    }

    /// The status with which a process ends that was asked to; none where nobody has.
    pub(crate) fn status(&self) -> Option<u8> {
        let which = i32::try_from(self.which.load(Ordering::Relaxed)).ok().filter(|which| *which > 0)?;
        self.asked.load(Ordering::Relaxed).then(|| u8::try_from(status(which)).unwrap_or(u8::MAX))
    }
}

fn status(signal: i32) -> i32 {
    128 + signal
}
