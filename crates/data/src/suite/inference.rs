//! `mnli` and `rte`: what follows from a sentence.
//!
//! Entailment goes through synonyms, kinds (`sparrow` to `bird`), dropped details, double negation and numbers; contradiction
//! through negation, antonyms and numbers; neutral hypotheses change or add a detail. Negation, kinds and comparisons occur under
//! every label, so the hypothesis alone tells little.

use crate::language::draw::Draw;
use crate::language::edit::{Slot, slots, widened};
use crate::language::lexicon::{Class, Term};
use crate::language::render;
use crate::language::scene::{
    ANIMALS, Bound, FRAMES, Frame, Noun, OBJECTS, PEOPLE, PLACES, Quality, Quantity, Scene, TRANSITIVE, Wish,
};
use crate::suite::paraphrase::{misplaced, near_miss};
use crate::task::Example;

/// How a hypothesis relates to its premise; the discriminant is `mnli`'s class id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Entailment,
    Neutral,
    Contradiction,
}

const RELATIONS: [Relation; 3] = [Relation::Entailment, Relation::Neutral, Relation::Contradiction];

const SYNONYM_SHARE: f64 = 0.3;

/// `mnli`, plain statements.
pub fn matched(draw: &mut Draw) -> Example {
    let relation = draw.one_of(&RELATIONS);
    let (premise, hypothesis) = statements(draw, relation);
    pair(format!("{premise} ."), format!("{hypothesis} ."), relation as u8)
}

/// `mnli`, hearsay: the premise is reported and the hypothesis is dated.
pub fn mismatched(draw: &mut Draw) -> Example {
    let relation = draw.one_of(&RELATIONS);
    let (premise, hypothesis) = statements(draw, relation);
    let time = draw.time();
    let time = render::time(time);
    let name = render::noun(Noun::bare(draw.pick_from(&[Class::Female, Class::Male])));
    let premise = match draw.below(3) {
        0 => format!("according to {name} , {premise}"),
        1 => format!("it was reported that {premise}"),
        _ => format!("{name} said that {premise}"),
    };
    pair(format!("{time} , {premise} ."), format!("{hypothesis} ."), relation as u8)
}

/// `rte`: two clauses and a hypothesis about one of them.
pub fn two_way(draw: &mut Draw) -> Example {
    let wish = Wish { adjective: 0.05, plural: 0.15, place: 0.1, ..Wish::default() };
    let (left, right) = (draw.scene(FRAMES, wish), draw.scene(TRANSITIVE, wish));
    let (left_form, right_form) = (draw.form(&left), draw.form(&right));
    let conjunction = draw.one_of(&["and", "while", "but"]);
    let premise = format!("{} {conjunction} {} .", render::clause(&left, left_form), render::clause(&right, right_form));
    let (chosen, other) = if draw.chance(0.5) { (left, right) } else { (right, left) };
    let entailed = draw.chance(0.5);
    let hypothesis = if entailed {
        entailed_scene(draw, &chosen)
    } else if draw.chance(0.3) && fits(&chosen, other.agent) {
        entailed_scene(draw, &Scene { agent: other.agent, ..chosen })
    } else {
        let miss = near_miss(draw, &chosen);
        entailed_scene(draw, &miss)
    };
    // Widening can undo a substitution: `sparrow` to `robin` to `bird`. Such a hypothesis follows after all.
    let form = draw.form(&hypothesis);
    let text = format!("{} .", render::clause(&hypothesis, form));
    if !entailed && follows(&hypothesis, &[left, right]) {
        return two_way(draw);
    }
    pair(premise, text, u8::from(!entailed))
}

fn pair(first: String, second: String, label: u8) -> Example {
    Example { first, second: Some(second), label: f32::from(label) }
}

/// Premise and hypothesis, without full stops.
fn statements(draw: &mut Draw, relation: Relation) -> (String, String) {
    match draw.below(10) {
        0..5 => event(draw, relation),
        5..9 => description(draw, relation),
        _ => count(draw, relation),
    }
}

fn event(draw: &mut Draw, relation: Relation) -> (String, String) {
    let wish = Wish { adjective: 0.1, plural: 0.1, place: 0.3, negated: 0.3, ..Wish::default() };
    let mut premise = draw.scene(FRAMES, wish);
    let hypothesis = match relation {
        Relation::Entailment => entailed_scene(draw, &premise),
        Relation::Contradiction => {
            let negated = !premise.negated;
            Scene { negated, ..draw.paraphrase(&premise, SYNONYM_SHARE) }
        }
        Relation::Neutral => {
            let widen = !premise.negated && draw.chance(0.25);
            let wide = if widen { widened(&premise, Slot::Agent, draw.chance(0.3)) } else { None };
            if let Some(wide) = wide {
                // From the kind to the word: `the bird slept` leaves open whether a sparrow did.
                let specific = draw.paraphrase(&premise, SYNONYM_SHARE);
                premise = wide;
                specific
            } else if draw.chance(0.3) && premise.place.is_none() {
                let place = Some(draw.pick_from(PLACES));
                Scene { place, negated: draw.chance(0.5), ..draw.paraphrase(&premise, SYNONYM_SHARE) }
            } else {
                let other = misplaced(draw, &premise, &slots(&premise));
                Scene { negated: draw.chance(0.5), ..draw.paraphrase(&other, SYNONYM_SHARE) }
            }
        }
    };
    let (form, other_form) = (draw.form(&premise), draw.form(&hypothesis));
    (render::clause(&premise, form), render::clause(&hypothesis, other_form))
}

/// A scene that holds whenever this one does.
fn entailed_scene(draw: &mut Draw, scene: &Scene) -> Scene {
    let mut result = draw.paraphrase(scene, SYNONYM_SHARE);
    if scene.negated {
        return result;
    }
    if draw.chance(0.5) {
        let nouns: Vec<Slot> =
            slots(&result).into_iter().filter(|s| matches!(s, Slot::Agent | Slot::Patient | Slot::Place)).collect();
        let slot = draw.one_of(&nouns);
        let wide = draw.chance(0.3);
        result = widened(&result, slot, wide).unwrap_or(result);
    }
    if draw.chance(0.4) {
        result.place = None;
    }
    if draw.chance(0.4) {
        result.agent.adjective = None;
        result.patient = result.patient.map(|p| Noun { adjective: None, ..p });
    }
    result
}

/// Whether `agent` may perform the verb of the scene beside its patient.
fn fits(scene: &Scene, agent: Noun) -> bool {
    let frame: Option<&Frame> = FRAMES.iter().find(|f| f.verb == scene.verb.class);
    let same = |t: Term| (t.class, t.group) == (agent.term.class, agent.term.group);
    frame.is_some_and(|f| f.agents.contains(&agent.term.class))
        && !same(scene.agent.term)
        && scene.patient.is_none_or(|p| !same(p.term))
}

/// Whether one of the facts entails the hypothesis, word meaning by word meaning.
fn follows(hypothesis: &Scene, facts: &[Scene]) -> bool {
    let term = |fact: Term, claim: Term| {
        (fact.class, fact.group, fact.side) == (claim.class, claim.group, claim.side)
            || (claim.class == Class::Kind && [render::kind, render::wider_kind].iter().any(|kind| kind(fact.class) == claim))
    };
    let adjective = |fact: Option<_>, claim: Option<_>| claim.is_none_or(|c| fact.is_some_and(|f| term(f, c)));
    let noun = |fact: Noun, claim: Noun| term(fact.term, claim.term) && adjective(fact.adjective, claim.adjective);
    facts.iter().any(|fact| {
        noun(fact.agent, hypothesis.agent)
            && term(fact.verb, hypothesis.verb)
            && match (fact.patient, hypothesis.patient) {
                (Some(fact), Some(claim)) => noun(fact, claim),
                (fact, claim) => fact.is_none() && claim.is_none(),
            }
            && adjective(fact.place, hypothesis.place)
    })
}

fn description(draw: &mut Draw, relation: Relation) -> (String, String) {
    let class = draw.one_of(&[Class::Dimension, Class::Polar]);
    let nouns = draw.one_of(&[OBJECTS, ANIMALS, PEOPLE]);
    let noun = draw.noun(nouns, Wish { plural: 0.2, ..Wish::default() });
    let premise = Quality { noun, adjective: draw.pick(class), negated: draw.chance(0.4) };
    let noun = Noun { term: if draw.chance(0.3) { draw.synonym(noun.term) } else { noun.term }, ..noun };
    let Some(antonym) = draw.antonym(premise.adjective) else { unreachable!("descriptions have antonyms") };
    let synonym = if draw.chance(0.6) { draw.synonym(premise.adjective) } else { premise.adjective };
    // `not big` leaves open whether it is small, so antonyms need an affirmative premise.
    let opposed = !premise.negated && draw.chance(0.6);
    let (adjective, negated) = match relation {
        Relation::Entailment if opposed => (antonym, true),
        Relation::Entailment => (synonym, premise.negated),
        Relation::Contradiction if opposed => (antonym, false),
        Relation::Contradiction => (synonym, !premise.negated),
        Relation::Neutral => (draw.sibling(premise.adjective), draw.chance(0.5)),
    };
    (render::quality(&premise), render::quality(&Quality { noun, adjective, negated }))
}

/// `five dogs slept` against `more than three dogs slept`.
fn count(draw: &mut Draw, relation: Relation) -> (String, String) {
    let mut premise = draw.scene(FRAMES, Wish::default());
    while premise.agent.is_name() {
        premise = draw.scene(FRAMES, Wish::default());
    }
    let (number, other) = distant_numbers(draw);
    let above = number.group > other.group;
    let counted = |noun: Noun, bound, number| Noun { plural: true, count: Some(Quantity { bound, number }), ..noun };
    premise.agent = counted(premise.agent, Bound::Exactly, number);
    let (right, wrong) = if above { (Bound::MoreThan, Bound::FewerThan) } else { (Bound::FewerThan, Bound::MoreThan) };
    let mut hypothesis = draw.paraphrase(&premise, SYNONYM_SHARE);
    let bound = match relation {
        Relation::Entailment => right,
        Relation::Contradiction => wrong,
        Relation::Neutral => {
            let slot = draw.one_of(&slots(&hypothesis));
            hypothesis = draw.substitute(&hypothesis, slot);
            draw.one_of(&[right, wrong])
        }
    };
    hypothesis.agent = counted(hypothesis.agent, bound, other);
    let active = render::Form::default();
    (render::clause(&premise, active), render::clause(&hypothesis, active))
}

/// Two numbers at least three apart, so that their order is plain.
fn distant_numbers(draw: &mut Draw) -> (Term, Term) {
    loop {
        let (a, b) = (draw.pick(Class::Number), draw.pick(Class::Number));
        if a.group.abs_diff(b.group) >= 3 {
            return (a, b);
        }
    }
}
