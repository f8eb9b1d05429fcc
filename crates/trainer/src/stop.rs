//! Whether somebody wants the work to stop: looked at between steps, between the batches of an evaluation, and between generated tokens.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::TrainError;

/// Flags of those who may want it.
#[derive(Clone, Copy, Debug)]
pub struct Stop<'a> {
    flags: [&'a AtomicBool; 3],
}

static UNSET: AtomicBool = AtomicBool::new(false);

impl<'a> Stop<'a> {
    /// Nobody.
    pub const NEVER: Stop<'static> = Stop { flags: [&UNSET; 3] };

    /// Whoever sets the flag.
    pub fn on(flag: &'a AtomicBool) -> Self {
        Self { flags: [flag, &UNSET, &UNSET] }
    }

    /// Whoever this one hears, and whoever sets the flag: a study beside its caller, and a cohort beside its study.
    #[must_use]
    pub fn or(mut self, flag: &'a AtomicBool) -> Self {
        let free = self.flags.iter_mut().find(|own| std::ptr::eq(**own, &raw const UNSET));
        *free.unwrap_or_else(|| unreachable!("no more than three are heard")) = flag;
        self
    }

    /// Whether somebody does.
    pub fn is_asked(self) -> bool {
        self.flags.iter().any(|flag| flag.load(Ordering::Relaxed))
    }

    /// [`TrainError::Interrupted`] where somebody does.
    pub fn check(self) -> Result<(), TrainError> {
        if self.is_asked() { Err(TrainError::Interrupted) } else { Ok(()) }
    }
}
