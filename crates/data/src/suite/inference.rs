//! `mnli` and `rte`: what follows from a sentence.
//!
//! In `mnli` every premise describes its patient and every hypothesis judges it. A judgement that the description supports, with all
//! kinds in agreement, is entailed; one that it opposes, or another kind, contradicts; a description that is no judgement (a colour,
//! a size, a material) leaves the hypothesis open. All three labels share one form, so the hypothesis alone tells nothing.

use crate::language::draw::Draw;
use crate::language::edit::{Slot, plain, slots};
use crate::language::lexicon::{Class, Term};
use crate::language::render::{self, Form};
use crate::language::scene::{ANIMALS, FOODS, Frame, NAMES, Noun, OBJECTS, PEOPLE, PLAIN, Scene, Wish};
use crate::task::Example;

/// How a hypothesis relates to its premise; the discriminant is `mnli`'s class id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Entailment,
    Neutral,
    Contradiction,
}

const RELATIONS: [Relation; 3] = [Relation::Entailment, Relation::Neutral, Relation::Contradiction];

const DESCRIBED: &[Frame] = &[
    Frame { verb: Class::Handle, agents: PEOPLE, patients: OBJECTS },
    Frame { verb: Class::Consume, agents: PEOPLE, patients: FOODS },
    Frame { verb: Class::Hunt, agents: ANIMALS, patients: ANIMALS },
    Frame { verb: Class::Social, agents: PEOPLE, patients: &[Class::Occupation] },
];

/// `mnli`, plain statements.
pub fn matched(draw: &mut Draw) -> Example {
    let relation = draw.one_of(&RELATIONS);
    let (premise, hypothesis) = statements(draw, relation);
    pair(format!("{premise} ."), format!("{hypothesis} ."), relation as u8)
}

/// `mnli`, dated hearsay.
pub fn mismatched(draw: &mut Draw) -> Example {
    let relation = draw.one_of(&RELATIONS);
    let (premise, hypothesis) = statements(draw, relation);
    let time = draw.time();
    let time = render::time(time);
    let name = render::noun(Noun::bare(draw.pick_from(NAMES)));
    let premise = match draw.below(3) {
        0 => format!("according to {name} , {premise} {time}"),
        1 => format!("{time} it was reported that {premise}"),
        _ => format!("{name} said that {premise} {time}"),
    };
    pair(format!("{premise} ."), format!("{hypothesis} ."), relation as u8)
}

fn statements(draw: &mut Draw, relation: Relation) -> (String, String) {
    let mut premise = draw.scene(DESCRIBED, Wish { place: 0.2, ..Wish::default() });
    let class = match relation {
        Relation::Neutral => draw.one_of(&[Class::Dimension, Class::Colour, Class::Material]),
        Relation::Entailment | Relation::Contradiction => Class::Polar,
    };
    premise.patient = premise.patient.map(|p| draw.judged(p, class));
    let restated = plain(&premise);
    let hypothesis = match relation {
        Relation::Entailment => restated,
        Relation::Neutral => {
            let judgement = draw.pick(Class::Judgement);
            Scene { patient: restated.patient.map(|p| Noun { adjective: Some(judgement), ..p }), ..restated }
        }
        Relation::Contradiction => {
            let slot = if draw.chance(0.6) { Slot::Judgement } else { draw.one_of(&slots(&restated)) };
            draw.mistaken(&restated, slot)
        }
    };
    let form = draw.form(&premise);
    (render::clause(&premise, form), render::clause(&hypothesis, Form::default()))
}

/// `rte`: two clauses, and a plain hypothesis about one of them.
pub fn two_way(draw: &mut Draw) -> Example {
    let (left, right) = (draw.scene(PLAIN, Wish::default()), draw.scene(PLAIN, Wish::default()));
    let conjunction = draw.one_of(&["and", "while", "but"]);
    let clause = |scene: &Scene| render::clause(scene, Form::default());
    let premise = format!("{} {conjunction} {} .", clause(&left), clause(&right));
    let facts = [plain(&left), plain(&right)];
    let chosen = draw.one_of(&facts);
    let entailed = draw.chance(0.5);
    let hypothesis = if entailed { chosen } else { draw.near_miss(&chosen) };
    let parts = |s: &Scene| -> (Term, Term, Option<Term>) { (s.agent.term, s.verb, s.patient.map(|p| p.term)) };
    // A miss of one clause can be true of the other.
    let entailed = facts.iter().any(|fact| parts(fact) == parts(&hypothesis));
    pair(premise, format!("{} .", clause(&hypothesis)), u8::from(!entailed))
}

fn pair(first: String, second: String, label: u8) -> Example {
    Example { first, second: Some(second), label: f32::from(label) }
}
