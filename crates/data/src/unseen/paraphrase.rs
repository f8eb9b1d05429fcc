//! `paraphrase`: do two sentences tell the same event, each with another part of it in front?
//!
//! A paraphrase has synonyms in another construction. A near miss has two parts that differ: another word of the same family, or agent
//! and patient in exchanged roles.

use super::reword::{at_place, parts, past};
use crate::language::draw::Draw;
use crate::language::render;
use crate::language::scene::{Scene, TRANSITIVE, Wish};
use crate::task::Example;

/// Share of the words that have synonyms of which a paraphrase takes one. With most of them, as in the other tasks, an adapter of rank 8 is
/// hardly above a constant answer after 1,000 steps.
const REWORDED: f64 = 0.3;

/// Two sentences; label 1 if they tell the same.
pub(super) fn example(draw: &mut Draw) -> Example {
    let scene = draw.scene(TRANSITIVE, Wish { plural: 0.2, place: 0.5, ..Wish::default() });
    let same = draw.chance(0.5);
    let told = if same { scene } else { draw.altered_in(&scene, parts(&scene), 2) };
    let told = draw.reworded(&told, REWORDED);
    let first = cleft(draw, &scene);
    let second = pseudo_cleft(draw, &told);
    Example { first, second: Some(second), label: f32::from(u8::from(same)) }
}

/// `it was the doctor that fixed the drill in paris .`, `it was the drill that the doctor fixed in paris .`
fn cleft(draw: &mut Draw, scene: &Scene) -> String {
    let (agent, verb, place) = (render::noun(scene.agent), past(scene), at_place(scene));
    let patient = scene.patient.map(render::noun).unwrap_or_default();
    if draw.chance(0.5) {
        format!("it was {agent} that {verb} {patient}{place} .")
    } else {
        format!("it was {patient} that {agent} {verb}{place} .")
    }
}

/// `what the physician repaired in paris was the drill .`, `the drill was what the physician repaired in paris .`
fn pseudo_cleft(draw: &mut Draw, scene: &Scene) -> String {
    let (agent, verb, place) = (render::noun(scene.agent), past(scene), at_place(scene));
    let patient = scene.patient.map(render::noun).unwrap_or_default();
    if draw.chance(0.5) {
        format!("what {agent} {verb}{place} was {patient} .")
    } else {
        format!("{patient} was what {agent} {verb}{place} .")
    }
}
