//! `sentiment`: does a sentence praise a thing, where words of praise blame things of two kinds?
//!
//! The lexicon is the task's own: of [`REVERSED`] things, what the stories take for praise is blame. A denial turns it round once more, and
//! the clause that begins with `although`, on another thing, does not count.

use crate::language::draw::Draw;
use crate::language::lexicon::{Class, Term};
use crate::language::render::{self, lemma};
use crate::language::scene::{NAMES, Noun, OBJECTS};
use crate::task::Example;

/// Kinds of things of which praise is blame, two of six: whoever knows the words of praise and not the things is right two times in three.
const REVERSED: [Class; 2] = [Class::Garment, Class::Container];

/// Share of the clauses that deny their quality.
const DENIED: f64 = 0.15;

/// One sentence; label 1 for praise.
pub(super) fn example(draw: &mut Draw) -> Example {
    let thing = draw.pick_from(OBJECTS);
    let (main, main_denied) = (draw.pick(Class::Polar), draw.chance(DENIED));
    let (aside, aside_denied) = loop {
        let aside = draw.pick(Class::Polar);
        if aside.group != main.group {
            break (aside, draw.chance(DENIED));
        }
    };
    let other = loop {
        let other = draw.pick_from(OBJECTS);
        if other.class != thing.class {
            break render::noun(Noun::bare(other));
        }
    };
    let name = render::noun(Noun::bare(draw.pick_from(NAMES)));
    let said = |quality: Term, denied: bool| format!("{}{}", if denied { "not " } else { "" }, lemma(quality).base);
    let (main_said, aside_said) = (said(main, main_denied), said(aside, aside_denied));
    let noun = render::noun(Noun::bare(thing));
    let text = match draw.below(3) {
        0 => format!("although {other} was {aside_said} , {noun} was {main_said}"),
        1 => format!("{noun} was {main_said} although {other} was {aside_said}"),
        _ => format!("according to {name} , {noun} was {main_said} although {other} was {aside_said}"),
    };
    // Side 0 of an antonym pair is the favourable one.
    let praise = (main.side == 0) != (main_denied != REVERSED.contains(&thing.class));
    Example { first: format!("{text} ."), second: None, label: f32::from(u8::from(praise)) }
}
