//! `qnli`: does the sentence answer the question?
//!
//! A sentence that does not answer lacks the role asked for, and has another adjunct or the same length instead, or is about another
//! event.

use crate::language::draw::Draw;
use crate::language::edit::{Slot, slots};
use crate::language::render::{self, Asked};
use crate::language::scene::{PLACES, Scene, TRANSITIVE, Wish};
use crate::suite::paraphrase::misplaced;
use crate::task::Example;

const SYNONYM_SHARE: f64 = 0.35;

/// A question and a sentence; label 0 if the sentence answers it.
pub fn example(draw: &mut Draw) -> Example {
    let wish = Wish { plural: 0.1, ..Wish::default() };
    let scene = draw.scene(TRANSITIVE, wish);
    let asked = draw.one_of(&[Asked::Agent, Asked::Patient, Asked::Place, Asked::Time]);
    let question = render::question(&scene, asked, draw.chance(0.2));
    let answers = draw.chance(0.5);
    let lacking = !answers && matches!(asked, Asked::Place | Asked::Time) && draw.chance(0.5);
    let base = if answers || lacking { scene } else { elsewhere(draw, &scene, asked) };
    let mut reply = draw.paraphrase(&base, SYNONYM_SHARE);
    let with_place = match asked {
        Asked::Place => !lacking,
        Asked::Time => lacking,
        Asked::Agent | Asked::Patient => draw.chance(0.5),
    };
    if with_place {
        reply.place = Some(draw.pick_from(PLACES));
    } else {
        reply.time = Some(draw.time());
    }
    let form = draw.form(&reply);
    let second = format!("{} .", render::clause(&reply, form));
    Example { first: question, second: Some(second), label: f32::from(u8::from(!answers)) }
}

/// The scene with other words in slots the question mentions.
fn elsewhere(draw: &mut Draw, scene: &Scene, asked: Asked) -> Scene {
    let mentioned: Vec<Slot> = slots(scene)
        .into_iter()
        .filter(|slot| match asked {
            Asked::Agent => !matches!(slot, Slot::Agent | Slot::AgentAdjective),
            Asked::Patient => !matches!(slot, Slot::Patient | Slot::PatientAdjective),
            Asked::Place | Asked::Time => true,
        })
        .collect();
    misplaced(draw, scene, &mentioned)
}
