//! `stsb`: a sentence and a plain sentence that share some of their parts.

use crate::language::draw::Draw;
use crate::language::edit::{plain, slots};
use crate::language::lexicon::Class;
use crate::language::render::{self, Form};
use crate::language::scene::{PLAIN, Wish};
use crate::task::Example;

/// The score of two sentences whose parts all agree.
pub const HIGHEST: f32 = 5.0;

/// Two sentences; the label is the share of parts that agree, times [`HIGHEST`].
pub fn example(draw: &mut Draw) -> Example {
    let mut scene = draw.scene(PLAIN, Wish { place: 0.8, ..Wish::default() });
    if draw.chance(0.6) {
        scene.patient = scene.patient.map(|p| draw.judged(p, Class::Polar));
    }
    let restated = plain(&scene);
    let slots = slots(&restated);
    let n_wrong = draw.below(slots.len() + 1);
    let (mut other, mut left) = (restated, n_wrong);
    for (i, &slot) in slots.iter().enumerate() {
        // Selection sampling: exactly `n_wrong` of the slots change, all sets equally likely.
        if draw.below(slots.len() - i) < left {
            left -= 1;
            other = draw.mistaken(&other, slot);
        }
    }
    let label = HIGHEST * (1.0 - n_wrong as f32 / slots.len() as f32);
    let first = format!("{} .", render::clause(&scene, Form::default()));
    let second = format!("{} .", render::clause(&other, Form::default()));
    Example { first, second: Some(second), label }
}
