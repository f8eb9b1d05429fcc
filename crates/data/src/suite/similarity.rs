//! `stsb`: two sentences that share some of their roles.

use crate::language::draw::Draw;
use crate::language::edit::{read, slots, with};
use crate::language::render;
use crate::language::scene::{TRANSITIVE, Wish};
use crate::task::Example;

/// The score of two sentences whose words all agree.
pub const HIGHEST: f32 = 5.0;

/// What a synonym contributes, against 1 for the same word and 0 for another.
const SYNONYM_CREDIT: f32 = 0.9;

/// Two sentences; the label is the share of roles that agree, times [`HIGHEST`].
pub fn example(draw: &mut Draw) -> Example {
    let wish = Wish { adjective: 0.1, place: 0.5, ..Wish::default() };
    let scene = draw.scene(TRANSITIVE, wish);
    let slots = slots(&scene);
    let n_changed = draw.below(slots.len() + 1);
    let mut left = n_changed;
    let (mut other, mut credit) = (scene, 0.0);
    for (i, &slot) in slots.iter().enumerate() {
        // Selection sampling: exactly `n_changed` of the slots change, all sets equally likely.
        if draw.below(slots.len() - i) < left {
            left -= 1;
            other = draw.substitute(&other, slot);
        } else {
            let Some(term) = read(&other, slot) else { unreachable!("a listed slot is filled") };
            let synonym = if draw.chance(0.4) { draw.synonym(term) } else { term };
            other = with(&other, slot, synonym);
            credit += if synonym == term { 1.0 } else { SYNONYM_CREDIT };
        }
    }
    let label = HIGHEST * credit / slots.len() as f32;
    let (form, other_form) = (draw.form(&scene), draw.form(&other));
    let first = format!("{} .", render::clause(&scene, form));
    let second = format!("{} .", render::clause(&other, other_form));
    Example { first, second: Some(second), label }
}
