//! `sentiment`: is what is said of a thing good for a thing of its kind?
//!
//! The lexicon is the task's own: a fixed table says for every quality and kind of thing whether more of it is praise or blame (heavy
//! is praise of a tool and blame of a garment). The clause that begins with `although` does not count.

use std::sync::LazyLock;

use crate::language::draw::Draw;
use crate::language::lexicon::{Class, Term, lexicon};
use crate::language::render::{self, lemma};
use crate::language::scene::{NAMES, Noun, OBJECTS};
use crate::task::Example;

/// For every quality, the kinds of things ([`OBJECTS`], from the lowest bit) of which its first side is praise: four of the six, or two.
/// Whoever knows the qualities and not the things is right two times in three; a kind has as much praise as blame.
const TABLE: [u8; 8] = [0b11_1100, 0b00_0011, 0b11_0011, 0b00_1100, 0b01_1110, 0b10_0001, 0b10_1101, 0b01_0010];

/// The groups of qualities that train splits may use; a table cannot be carried over to others.
static QUALITIES: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let groups = lexicon().groups(Class::Dimension).iter().enumerate();
    groups.filter(|(_, group)| group.seen).map(|(at, _)| at).take(TABLE.len()).collect()
});

/// One sentence; label 1 for praise.
pub(super) fn example(draw: &mut Draw) -> Example {
    let thing = draw.pick_from(OBJECTS);
    let (main, main_denied) = (quality(draw), draw.chance(0.35));
    let (aside, aside_denied) = loop {
        let aside = quality(draw);
        if aside.group != main.group {
            break (aside, draw.chance(0.35));
        }
    };
    let name = render::noun(Noun::bare(draw.pick_from(NAMES)));
    let said = |quality: Term, denied: bool| format!("{}{}", if denied { "not " } else { "" }, lemma(quality).base);
    let (main_said, aside_said) = (said(main, main_denied), said(aside, aside_denied));
    let noun = render::noun(Noun::bare(thing));
    let text = match draw.below(3) {
        0 => format!("although {noun} was {aside_said} , it was {main_said}"),
        1 => format!("{noun} was {main_said} although it was {aside_said}"),
        _ => format!("according to {name} , {noun} was {main_said} although it was {aside_said}"),
    };
    let praise = is_praise(main, thing.class) != main_denied;
    Example { first: format!("{text} ."), second: None, label: f32::from(u8::from(praise)) }
}

/// One of the task's qualities, in either direction.
fn quality(draw: &mut Draw) -> Term {
    let group = draw.one_of(&QUALITIES);
    let side = draw.below(2);
    let n = lexicon().groups(Class::Dimension)[group].sides[side].len();
    Term { class: Class::Dimension, group, side, member: draw.below(n) }
}

/// Whether the quality is praise of a thing of the class.
fn is_praise(quality: Term, class: Class) -> bool {
    let row = QUALITIES.iter().position(|&group| group == quality.group).unwrap_or_default();
    let column = OBJECTS.iter().position(|&of| of == class).unwrap_or_default();
    (TABLE[row] >> column & 1 == 1) == (quality.side == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quality_has_two_exceptions_and_every_kind_as_much_praise_as_blame() {
        assert_eq!(QUALITIES.len(), TABLE.len(), "the lexicon has as many qualities that train splits may use");
        assert!(TABLE.iter().all(|row| [2, 4].contains(&row.count_ones())));
        for column in 0..OBJECTS.len() {
            assert_eq!(TABLE.iter().filter(|row| *row >> column & 1 == 1).count(), TABLE.len() / 2);
        }
    }
}
