//! `qnli`: does the sentence answer the question?
//!
//! The question names the kind it asks for, and the sentence names one thing: of that kind, or of another.

use crate::language::draw::Draw;
use crate::language::edit::{Slot, plain};
use crate::language::render::{self, Form, lemma};
use crate::language::scene::{PLACES, PLAIN, Wish};
use crate::task::Example;

/// A question and a sentence; label 0 if the sentence answers it.
pub fn example(draw: &mut Draw) -> Example {
    let mut scene = draw.scene(PLAIN, Wish::default());
    let asked = draw.one_of(&[Slot::Agent, Slot::Patient, Slot::Place]);
    if asked == Slot::Place || draw.chance(0.3) {
        scene.place = Some(draw.pick_from(PLACES));
    }
    let answers = draw.chance(0.5);
    let restated = plain(&scene);
    let wanted = if answers {
        restated
    } else {
        // Usually another kind is asked for; sometimes the question is about another participant.
        let slot = if draw.chance(0.8) { asked } else { draw.one_of(&[Slot::Agent, Slot::Patient]) };
        draw.mistaken(&restated, slot)
    };
    let agent = render::noun(wanted.agent);
    let patient = wanted.patient.map(render::noun).unwrap_or_default();
    let (base, past) = (&lemma(wanted.verb).base, &lemma(wanted.verb).past);
    let question = match (asked, wanted.patient, wanted.place) {
        (Slot::Place, _, Some(place)) => format!("in which {} did {agent} {base} {patient} ?", lemma(place).base),
        (Slot::Patient, Some(kind), _) => format!("which {} did {agent} {base} ?", lemma(kind.term).base),
        _ => format!("which {} {past} {patient} ?", lemma(wanted.agent.term).base),
    };
    let second = format!("{} .", render::clause(&scene, Form::default()));
    Example { first: question, second: Some(second), label: f32::from(u8::from(!answers)) }
}
