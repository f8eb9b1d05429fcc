//! `answer`: does the sentence answer the question?
//!
//! The question asks by kind for one participant of an event. A sentence that does not answer it names one of another kind, or differs in
//! two of verb, other participant, place and roles; a second event stands beside the first in every sentence.

use super::reword::{MOST, Part, at_place, object, parts, past};
use crate::language::draw::Draw;
use crate::language::lexicon::{Class, Term};
use crate::language::render::{self, Form, kind, lemma};
use crate::language::scene::{ANIMALS, FOODS, NAMES, Noun, OBJECTS, PEOPLE, PLAIN, Scene, Wish};
use crate::task::Example;

/// A question and a sentence; label 0 if the sentence answers it.
pub(super) fn example(draw: &mut Draw) -> Example {
    let scene = draw.scene(PLAIN, Wish { place: 0.4, ..Wish::default() });
    let of_agent = draw.chance(0.5);
    let answers = draw.chance(0.5);
    let wanted = kind(if of_agent { scene.agent } else { scene.patient.unwrap_or(scene.agent) }.term.class);
    let (mut told, mut asked) = (scene, wanted);
    if !answers && draw.chance(0.5) {
        asked = other_kind(draw, wanted);
    } else if !answers {
        let answer = if of_agent { Part::Agent } else { Part::Patient };
        let others = parts(&scene).into_iter().filter(|&part| part != answer).collect();
        told = draw.altered_in(&scene, others, 2);
    }
    let told = draw.reworded(&told, MOST);
    let question = question(&scene, asked, of_agent);
    let second = sentence(draw, &told);
    Example { first: question, second: Some(second), label: f32::from(u8::from(!answers)) }
}

/// `which bird did the cat chase in paris ?`, `which mammal chased the heron ?`
fn question(scene: &Scene, asked: Term, of_agent: bool) -> String {
    let (kind, place) = (&lemma(asked).base, at_place(scene));
    if of_agent {
        format!("which {kind} {}{}{place} ?", past(scene), object(scene))
    } else {
        format!("which {kind} did {} {}{place} ?", render::noun(scene.agent), lemma(scene.verb).base)
    }
}

/// The event and another one, in either order.
fn sentence(draw: &mut Draw, told: &Scene) -> String {
    let clause = render::clause(told, Form { passive: told.patient.is_some() && draw.chance(0.3), fronted: false });
    let name = render::noun(Noun::bare(draw.pick_from(NAMES)));
    let aside = format!("{name} {}", lemma(draw.pick(Class::Intransitive)).past);
    if draw.chance(0.5) { format!("{clause} while {aside} .") } else { format!("while {aside} , {clause} .") }
}

/// Another kind of the same family.
fn other_kind(draw: &mut Draw, wanted: Term) -> Term {
    let families = [PEOPLE, ANIMALS, OBJECTS, FOODS];
    let family =
        families.into_iter().find(|family| family.iter().any(|&class| kind(class) == wanted)).unwrap_or(OBJECTS);
    loop {
        let class = draw.one_of(family);
        if kind(class) != wanted {
            return kind(class);
        }
    }
}
