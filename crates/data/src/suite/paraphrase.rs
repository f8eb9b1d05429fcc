//! `mrpc` and `qqp`: the same in plain words, against a near miss in plain words.
//!
//! Both labels have the same form; a near miss has another value in one or two places, so only what the words mean decides.

use crate::language::draw::Draw;
use crate::language::edit::plain;
use crate::language::lexicon::Class;
use crate::language::render::{self, Asked, Form};
use crate::language::scene::{PLAIN, Wish};
use crate::task::Example;

const SAME_SHARE: f64 = 0.62;

/// Two statements; label 1 if they say the same.
pub fn sentences(draw: &mut Draw) -> Example {
    let mut scene = draw.scene(PLAIN, Wish { place: 0.3, ..Wish::default() });
    if draw.chance(0.4) {
        scene.patient = scene.patient.map(|p| draw.judged(p, Class::Polar));
    }
    let same = draw.chance(SAME_SHARE);
    let restated = plain(&scene);
    let other = if same { restated } else { draw.near_miss(&restated) };
    let form = draw.form(&scene);
    pair(format!("{} .", render::clause(&scene, form)), format!("{} .", render::clause(&other, Form::default())), same)
}

/// Two questions; label 1 if they ask the same.
pub fn questions(draw: &mut Draw) -> Example {
    let mut scene = draw.scene(PLAIN, Wish::default());
    if draw.chance(0.3) {
        scene.patient = scene.patient.map(|p| draw.judged(p, Class::Polar));
    }
    let asked = draw.one_of(&[Asked::Place, Asked::Time]);
    let same = draw.chance(SAME_SHARE);
    let restated = plain(&scene);
    let other = if same { restated } else { draw.near_miss(&restated) };
    pair(render::question(&scene, asked, draw.chance(0.2)), render::question(&other, asked, false), same)
}

fn pair(first: String, second: String, same: bool) -> Example {
    Example { first, second: Some(second), label: f32::from(u8::from(same)) }
}
