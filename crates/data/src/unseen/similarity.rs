//! `similarity`: how much of one event is in the other, from 0 to 5?
//!
//! Every part of an event counts with a weight of its own. A part counts whole where it is the same or a synonym in the same role, half
//! where it is another word of the same kind, and not at all otherwise.

use super::reword::{MOST, Part, at_place, past};
use crate::language::draw::Draw;
use crate::language::render;
use crate::language::scene::{Noun, Scene, TRANSITIVE, Wish};
use crate::task::Example;

/// What the agent, the verb, the patient and the place count; the sum is 5.
const WEIGHTS: [f32; 4] = [1.5, 0.5, 2.0, 1.0];

/// Two sentences and their score.
pub(super) fn example(draw: &mut Draw) -> Example {
    let frame = [draw.one_of(TRANSITIVE)];
    let scene = draw.scene(&frame, Wish { place: 1.0, ..Wish::default() });
    let other = draw.scene(&frame, Wish { place: 1.0, ..Wish::default() });
    let mut told = scene;
    let mut label = 0.0;
    for (part, weight) in [Part::Agent, Part::Verb, Part::Patient, Part::Place].into_iter().zip(WEIGHTS) {
        let share = match draw.below(3) {
            0 => 1.0,
            1 => {
                told = draw.altered(&told, part);
                share_of(&scene, &told, part)
            }
            _ => {
                told = taken_over(&told, &other, part);
                share_of(&scene, &told, part)
            }
        };
        label += weight * share;
    }
    let told = draw.reworded(&told, MOST);
    Example { first: first(&scene), second: Some(second(&told)), label }
}

/// How much of a part is kept: 1 for the same word, 0.5 for the same kind.
fn share_of(scene: &Scene, told: &Scene, part: Part) -> f32 {
    let term = |of: &Scene| match part {
        Part::Agent => Some(of.agent.term),
        Part::Verb => Some(of.verb),
        Part::Patient | Part::Roles => of.patient.map(|patient| patient.term),
        Part::Place => of.place,
    };
    match (term(scene), term(told)) {
        (Some(a), Some(b)) if (a.class, a.group, a.side) == (b.class, b.group, b.side) => 1.0,
        (Some(a), Some(b)) if a.class == b.class && part != Part::Verb => 0.5,
        _ => 0.0,
    }
}

fn taken_over(told: &Scene, other: &Scene, part: Part) -> Scene {
    let bare = |noun: Noun| Noun::bare(noun.term);
    match part {
        Part::Agent => Scene { agent: bare(other.agent), ..*told },
        Part::Verb => Scene { verb: other.verb, ..*told },
        Part::Patient | Part::Roles => Scene { patient: other.patient.map(bare), ..*told },
        Part::Place => Scene { place: other.place, ..*told },
    }
}

/// `when the doctor fixed the drill , it was in paris .`
fn first(scene: &Scene) -> String {
    let patient = scene.patient.map(render::noun).unwrap_or_default();
    format!("when {} {} {patient} , it was{} .", render::noun(scene.agent), past(scene), at_place(scene))
}

/// `it was in paris that the physician repaired the saw .`
fn second(scene: &Scene) -> String {
    let patient = scene.patient.map(render::noun).unwrap_or_default();
    format!("it was{} that {} {} {patient} .", at_place(scene), render::noun(scene.agent), past(scene))
}
