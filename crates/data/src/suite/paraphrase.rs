//! `mrpc` and `qqp`: the same in other words, against a near miss in the same other words.
//!
//! Both labels pass through the same synonym and voice changes; a near miss differs in one thing that matters, so neither the
//! overlap of words nor the wording alone decides.

use crate::language::draw::Draw;
use crate::language::edit::{Slot, slots, swapped};
use crate::language::render::{self, Asked};
use crate::language::scene::{FRAMES, Scene, TRANSITIVE, Wish};
use crate::task::Example;

const SAME_SHARE: f64 = 0.62;
const SYNONYM_SHARE: f64 = 0.4;

/// Two statements; label 1 if they say the same.
pub fn sentences(draw: &mut Draw) -> Example {
    let wish = Wish { adjective: 0.1, plural: 0.1, place: 0.3, ..Wish::default() };
    let scene = draw.scene(FRAMES, wish);
    let same = draw.chance(SAME_SHARE);
    let base = if same { scene } else { near_miss(draw, &scene) };
    let other = draw.paraphrase(&base, SYNONYM_SHARE);
    let (form, other_form) = (draw.form(&scene), draw.form(&other));
    let (first, second) = (render::clause(&scene, form), render::clause(&other, other_form));
    if first == second { sentences(draw) } else { pair(format!("{first} ."), format!("{second} ."), same) }
}

/// Two questions; label 1 if they ask the same.
pub fn questions(draw: &mut Draw) -> Example {
    let wish = Wish { adjective: 0.05, plural: 0.1, place: 0.25, ..Wish::default() };
    let mut scene = draw.scene(TRANSITIVE, wish);
    let asked = ask(draw, &mut scene);
    let same = draw.chance(SAME_SHARE);
    let (mut base, mut other_asked) = (scene, asked);
    if !same {
        if draw.chance(0.35) {
            other_asked = other_question(draw, asked, &scene);
        } else {
            base = different(draw, &scene, asked);
        }
    }
    let other = draw.paraphrase(&base, SYNONYM_SHARE);
    let first = render::question(&scene, asked, draw.chance(0.2));
    let second = render::question(&other, other_asked, draw.chance(0.2));
    if first == second { questions(draw) } else { pair(first, second, same) }
}

fn pair(first: String, second: String, same: bool) -> Example {
    Example { first, second: Some(second), label: f32::from(u8::from(same)) }
}

/// The scene with one or two words of other meaning, or with agent and patient exchanged.
pub fn near_miss(draw: &mut Draw, scene: &Scene) -> Scene {
    if draw.chance(0.1)
        && let Some(swapped) = swapped(scene)
    {
        return swapped;
    }
    misplaced(draw, scene, &slots(scene))
}

/// The scene with other words in one or two of the slots.
pub fn misplaced(draw: &mut Draw, scene: &Scene, slots: &[Slot]) -> Scene {
    let slot = draw.one_of(slots);
    let once = draw.substitute(scene, slot);
    let rest: Vec<Slot> = slots.iter().copied().filter(|&other| other != slot).collect();
    if rest.is_empty() || draw.chance(0.4) {
        return once;
    }
    let slot = draw.one_of(&rest);
    draw.substitute(&once, slot)
}

/// Chooses what to ask, and removes the adjuncts a question about it would leave ambiguous.
fn ask(draw: &mut Draw, scene: &mut Scene) -> Asked {
    let asked = draw.one_of(&[Asked::Agent, Asked::Patient, Asked::Place, Asked::Time]);
    match asked {
        Asked::Place => scene.place = None,
        Asked::Time => scene.time = None,
        Asked::Agent | Asked::Patient => {}
    }
    asked
}

/// A question about another role whose words are still those of the scene.
fn other_question(draw: &mut Draw, asked: Asked, scene: &Scene) -> Asked {
    let choices: &[Asked] = match asked {
        Asked::Agent => &[Asked::Patient],
        Asked::Patient => &[Asked::Agent],
        Asked::Place => &[Asked::Time],
        Asked::Time if scene.place.is_some() => &[Asked::Agent],
        Asked::Time => &[Asked::Place],
    };
    draw.one_of(choices)
}

/// The scene with other words in slots that the question mentions.
fn different(draw: &mut Draw, scene: &Scene, asked: Asked) -> Scene {
    let hidden = |slot: &Slot| match asked {
        Asked::Agent => matches!(slot, Slot::Agent | Slot::AgentAdjective),
        Asked::Patient => matches!(slot, Slot::Patient | Slot::PatientAdjective),
        Asked::Place => *slot == Slot::Place,
        Asked::Time => false,
    };
    let spoken: Vec<Slot> = slots(scene).into_iter().filter(|slot| !hidden(slot)).collect();
    misplaced(draw, scene, &spoken)
}
