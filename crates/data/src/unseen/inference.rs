//! `inference`: does it follow, is it ruled out, or is it open?
//!
//! A statement passes from a thing to its kind (`the woman used the drill`, so she used a tool), a denial from the kind to the thing
//! (`she did not use the tool`, so not the drill); the other ways are open, and so is everything about another thing. All four premises
//! meet all four hypotheses, so that neither text alone says anything.

use super::reword::{MOST, past};
use crate::language::draw::Draw;
use crate::language::lexicon::{Class, Term};
use crate::language::render::{self, kind, lemma};
use crate::language::scene::{ANIMALS, FOODS, Frame, NAMES, Noun, OBJECTS, PEOPLE, Scene, Wish};
use crate::task::Example;

const SPOKEN: &[Frame] = &[
    Frame { verb: Class::Handle, agents: PEOPLE, patients: OBJECTS },
    Frame { verb: Class::Consume, agents: PEOPLE, patients: FOODS },
    Frame { verb: Class::Hunt, agents: ANIMALS, patients: ANIMALS },
    Frame { verb: Class::Regard, agents: PEOPLE, patients: &[Class::Tool, Class::Fruit, Class::Bird, Class::Garment] },
];

/// How a text speaks of its patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spoken {
    /// By the kind's word, not the thing's.
    by_kind: bool,
    /// Whether it happened.
    denied: bool,
}

/// The class ids of `mnli`.
const ENTAILED: u8 = 0;
const OPEN: u8 = 1;
const RULED_OUT: u8 = 2;

/// What a premise says about a hypothesis on the same event.
fn relation(premise: Spoken, hypothesis: Spoken) -> u8 {
    let same = premise.by_kind == hypothesis.by_kind;
    // A statement is at least as strong as one about the kind, a denial of the kind as one of the thing.
    let reaches = if premise.denied { premise.by_kind } else { !premise.by_kind };
    match (reaches || same, premise.denied == hypothesis.denied) {
        (true, true) => ENTAILED,
        (true, false) => RULED_OUT,
        (false, _) => OPEN,
    }
}

/// Premise, hypothesis and relation.
pub(super) fn example(draw: &mut Draw) -> Example {
    let label = draw.below(3) as u8;
    let scene = draw.scene(SPOKEN, Wish::default());
    loop {
        let mut spoken = || Spoken { by_kind: draw.chance(0.5), denied: draw.chance(0.5) };
        let (premise, hypothesis) = (spoken(), spoken());
        let elsewhere = label == OPEN && draw.chance(0.75);
        let found = if elsewhere { OPEN } else { relation(premise, hypothesis) };
        if found != label {
            continue;
        }
        let told = if elsewhere { other_thing(draw, &scene) } else { scene };
        let told = draw.reworded(&told, MOST);
        let name = render::noun(Noun::bare(draw.pick_from(NAMES)));
        let first = format!("{name} said that {} .", clause(&scene, premise));
        let second = format!("according to {name} , {} .", clause(&told, hypothesis));
        return Example { first, second: Some(second), label: f32::from(label) };
    }
}

/// The event with a patient of another class that the verb takes.
fn other_thing(draw: &mut Draw, scene: &Scene) -> Scene {
    let Some(patient) = scene.patient else { return *scene };
    let Some(frame) = SPOKEN.iter().find(|f| f.verb == scene.verb.class && f.patients.contains(&patient.term.class))
    else {
        return *scene;
    };
    loop {
        let term: Term = draw.pick_from(frame.patients);
        if term.class != patient.term.class && term.class != scene.agent.term.class {
            return Scene { patient: Some(Noun::bare(term)), ..*scene };
        }
    }
}

/// `the woman used the drill`, `the woman did not use the tool`.
fn clause(scene: &Scene, spoken: Spoken) -> String {
    let of_kind = |patient: Noun| Noun { term: kind(patient.term.class), ..patient };
    let patient = scene.patient.map(|patient| if spoken.by_kind { of_kind(patient) } else { patient });
    let (agent, patient) = (render::noun(scene.agent), patient.map(render::noun).unwrap_or_default());
    if spoken.denied {
        format!("{agent} did not {} {patient}", lemma(scene.verb).base)
    } else {
        format!("{agent} {} {patient}", past(scene))
    }
}
