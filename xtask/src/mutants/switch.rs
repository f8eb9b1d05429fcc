//! Writes mutants into a file's text: all of them, each behind a question to the running program, or some of them plainly.

use std::{collections::BTreeSet, ops::Range};

use super::{
    list::Mutant,
    sites::{Form, Site},
};

/// A file's text with mutants in it, and what of it is whose.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) text: String,
    /// The text of one mutant.
    alternatives: Vec<(Range<usize>, usize)>,
    /// The text of a site with all its mutants; a site comes before those within it.
    sites: Vec<(Range<usize>, Vec<usize>)>,
    /// Unchanged text: where it lies here, where in the file, its length.
    unchanged: Vec<(usize, usize, usize)>,
}

impl Written {
    /// The mutants that a place of the text belongs to: the one that put the text there, or those of the innermost site around it.
    pub(super) fn mutants_at(&self, place: usize) -> Vec<usize> {
        let own: Vec<_> = self.alternatives.iter().filter(|(range, _)| range.contains(&place)).map(|it| it.1).collect();
        if !own.is_empty() {
            return own;
        }
        let around = self.sites.iter().rev().find(|(range, _)| range.contains(&place));
        around.map(|(_, mutants)| mutants.clone()).unwrap_or_default()
    }

    /// The byte of the file as it was that a place of unchanged text has.
    pub(super) fn before(&self, place: usize) -> Option<usize> {
        let holds = |(here, _, length): &&(usize, usize, usize)| (*here..=here + length).contains(&place);
        self.unchanged.iter().find(holds).map(|(here, there, _)| there + place - here)
    }

    fn keep(&mut self, source: &str, range: Range<usize>) {
        self.unchanged.push((self.text.len(), range.start, range.len()));
        self.text.push_str(&source[range]);
    }
}

/// A file with every mutant of its sites behind a switch, but for the dropped ones. `first` has the number of each site's first mutant.
pub(super) fn switched(source: &str, sites: &[Site], first: &[u32], dropped: &BTreeSet<usize>) -> Written {
    let mut written = Written::default();
    let numbered: Vec<(&Site, u32)> = sites.iter().zip(first.iter().copied()).collect();
    emit(&mut written, source, 0..source.len(), &numbered, dropped);
    written
}

fn emit(out: &mut Written, source: &str, range: Range<usize>, sites: &[(&Site, u32)], dropped: &BTreeSet<usize>) {
    let (mut at, mut next) = (range.start, 0);
    while let Some((site, first)) = sites.get(next) {
        let inner = sites[next + 1..].iter().take_while(|(other, _)| other.range.start < site.range.end).count();
        let within = &sites[next + 1..=next + inner];
        out.keep(source, at..site.range.start);
        let live = site.alternatives.iter().any(|(mutant, _)| !dropped.contains(mutant));
        if live {
            decide(out, source, (site, *first), within, dropped);
        } else {
            emit(out, source, site.range.clone(), within, dropped);
        }
        (at, next) = (site.range.end, next + 1 + inner);
    }
    out.keep(source, at..range.end);
}

/// Writes a site as a `match` over the number of its live mutant, 0 for none. The text as it was comes first: where types differ, the
/// compiler then complains about the mutant.
fn decide(
    out: &mut Written,
    source: &str,
    (site, first): (&Site, u32),
    within: &[(&Site, u32)],
    dropped: &BTreeSet<usize>,
) {
    let start = out.text.len();
    let whole = out.sites.len();
    out.sites.push((start..start, Vec::new()));
    let question = format!("match crate::live_mutant::of({first}, {}) {{ 0 => ", site.alternatives.len());
    match site.form {
        Form::Body => out.text.push_str(&format!("{question}()")),
        Form::Arm => out.text.push_str(&format!(" if {question}true")),
        Form::Value | Form::Operators => {
            out.text.push_str(&format!("({question}("));
            emit(out, source, site.range.clone(), within, dropped);
            out.text.push(')');
        }
    }
    let mut mutants = Vec::new();
    for (number, (mutant, text)) in site.alternatives.iter().enumerate() {
        if !dropped.contains(mutant) {
            out.text.push_str(&format!(", {} => ", number + 1));
            out.alternatives.push((out.text.len()..out.text.len() + text.len(), *mutant));
            out.text.push_str(text);
            mutants.push(*mutant);
        }
    }
    out.text.push_str(match site.form {
        Form::Body => ", _ => () } ",
        Form::Arm => ", _ => true }",
        Form::Value | Form::Operators => ", _ => unreachable!() })",
    });
    out.sites[whole] = (start..out.text.len(), mutants);
}

/// A file with some mutants written as cargo-mutants writes them; they do not overlap. Each owns the function around it.
pub(super) fn plain(source: &str, mutants: &[(usize, &Mutant)]) -> Written {
    let mut ordered = mutants.to_vec();
    ordered.sort_by_key(|(_, mutant)| mutant.span.start);
    let mut written = Written::default();
    let mut at = 0;
    for (index, mutant) in ordered {
        written.keep(source, at..mutant.span.start);
        let start = written.text.len();
        written.text.push_str(&mutant.replacement);
        // An error may lie at the end of what was deleted.
        written.alternatives.push((start..written.text.len() + 1, index));
        at = mutant.span.end;
    }
    written.keep(source, at..source.len());
    written
}

/// The module that every mutated crate gets: which mutant is live. It reads its answer once from the environment; asked to, it writes down
/// the sites that it was asked about.
pub(super) fn module(sites: u32) -> String {
    MODULE.replace("{numbers}", &(sites as usize / 64 + 1).to_string())
}

/// The number of the live mutant.
pub(super) const LIVE: &str = "LORA_LAB_MUTANT";
/// The file of the reached sites.
pub(super) const REACHED: &str = "LORA_LAB_MUTANTS_REACHED";

const MODULE: &str = r#"
use std::{env, fs::OpenOptions, io::Write, sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed}};

const WRITES: u32 = u32::MAX - 1;
const UNREAD: u32 = u32::MAX;
static LIVE: AtomicU32 = AtomicU32::new(UNREAD);
static SEEN: [AtomicU64; {numbers}] = [const { AtomicU64::new(0) }; {numbers}];

/// 0, or which of `count` mutants from the number `first` on is live, counted from 1.
#[inline(always)]
pub(crate) fn of(first: u32, count: u32) -> u32 {
    let live = LIVE.load(Relaxed);
    if live >= WRITES {
        return other(first, count);
    }
    let at = live.wrapping_sub(first);
    if at < count { at + 1 } else { 0 }
}

#[cold]
#[inline(never)]
fn other(first: u32, count: u32) -> u32 {
    if LIVE.load(Relaxed) == UNREAD {
        let live = env::var("LORA_LAB_MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        LIVE.store(if env::var_os("LORA_LAB_MUTANTS_REACHED").is_some() { WRITES } else { live }, Relaxed);
        return of(first, count);
    }
    let (at, bit) = (first as usize / 64, 1u64 << (first % 64));
    if SEEN[at].load(Relaxed) & bit == 0 && SEEN[at].fetch_or(bit, Relaxed) & bit == 0 {
        let file = env::var_os("LORA_LAB_MUTANTS_REACHED");
        let opened = file.and_then(|file| OpenOptions::new().append(true).create(true).open(file).ok());
        if let Some(mut file) = opened {
            let _ = file.write_all(format!("{first}\n").as_bytes());
        }
    }
    0
}
"#;
