//! Readers of other crates that panic on some damaged files: a damaged file is an error, not a bug of this program.

use std::cell::Cell;
use std::panic::{self, UnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is a reader's, which becomes an error and is not shown.
    static READS: Cell<bool> = const { Cell::new(false) };
}

/// What `read` returns; none where it panics.
pub(crate) fn quietly<T>(read: impl FnOnce() -> T + UnwindSafe) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let shown = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !READS.get() {
                shown(info);
            }
        }));
    });
    READS.set(true);
    let read = panic::catch_unwind(read);
    READS.set(false);
    read.ok()
}
