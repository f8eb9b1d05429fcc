//! Faults, made on purpose: kills, full disks, cut files, folders that cannot be written, second processes, signals, a run that diverges.
//!
//! After each of them, the same commands again must end in what a study leaves that nothing disturbed: the same files with the same
//! bits, but for what a clock says. `LORA_LAB_FAULTS=full` asks for the counts of `just faults`; without it every kind of fault is made
//! a few times.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod cut;
mod disk;
mod diverge;
mod kill;
mod outcome;
mod scratch;
mod share;
mod signal;

/// `short` in the ordinary tests, `full` where `just faults` asks.
fn count(short: usize, full: usize) -> usize {
    if std::env::var("LORA_LAB_FAULTS").is_ok_and(|asked| asked == "full") { full } else { short }
}

/// Splitmix64: moments and places of faults, the same at every call of a test.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }
}
