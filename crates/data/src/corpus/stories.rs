//! Stories: unlabelled text that knows of no task.
//!
//! A story tells one event and goes on about those who took part. It names them again by the same word, a synonym, the kind or a
//! pronoun, and says what they are like and how they felt, so that masked words follow from the words around them. No document has a
//! label, a verdict or a question, and none comes from a task's generator.

use std::collections::BTreeSet;

use super::{PLEASED, UPSET, fact, number};
use crate::language::draw::Draw;
use crate::language::edit::{judgement, plain};
use crate::language::lexicon::{Class, Term, lexicon};
use crate::language::render::{self, kind, lemma};
use crate::language::scene::{FRAMES, Noun, PLAIN, Scene, Wish};

/// Words of the stories that belong to no class of the lexicon.
const FUNCTION_WORDS: &str = ". , the a an is are was were did not never by in at on and or but because then it he she they of than \
     more fewer means opposite everyone smiled complained pleased upset glad sorry grinned frowned";

/// Every word that a story can have.
pub(super) fn words() -> BTreeSet<&'static str> {
    lexicon().forms().into_iter().map(|(form, _)| form).chain(FUNCTION_WORDS.split_whitespace()).collect()
}

/// Words that the rest of a story determines: names of kinds, plain verbs, judgements, pronouns, outcomes.
pub(super) fn determined_words() -> BTreeSet<&'static str> {
    let listed = "smiled grinned glad pleased complained frowned sorry upset he she it they not never was were is are";
    listed.split(' ').chain(super::plain_words()).collect()
}

/// One text, or one whose later sentences stand in a second segment.
pub(super) fn document(draw: &mut Draw) -> (String, Option<String>) {
    let mut sentences = match draw.below(100) {
        0..8 => vec![fact(draw)],
        8..11 => vec![number(draw)],
        11..24 => habits(draw),
        _ => story(draw),
    };
    let n = sentences.len();
    let second = (n > 1 && draw.chance(0.5)).then(|| sentences.split_off(1 + draw.below(n - 1)).join(" "));
    (sentences.join(" "), second)
}

/// What some do as a rule, and what they are like.
fn habits(draw: &mut Draw) -> Vec<String> {
    let wish = Wish { adjective: 0.25, plural: 0.5, place: 0.15, time: 0.1, manner: 0.2, negated: 0.0 };
    let frames = draw.one_of(&[FRAMES, FRAMES, PLAIN]);
    let scene = draw.scene(frames, wish);
    let mut sentences = vec![format!("{} .", render::present(&scene, true))];
    if draw.chance(0.5) {
        let be = if scene.agent.plural { "are" } else { "is" };
        let adjective = &lemma(draw.pick(Class::Dimension)).base;
        sentences.push(format!("{} {be} {adjective} .", subject(draw, scene.agent)));
    }
    sentences
}

fn story(draw: &mut Draw) -> Vec<String> {
    let wish = Wish { adjective: 0.2, plural: 0.25, place: 0.4, time: 0.15, manner: 0.15, negated: 0.0 };
    let frames = draw.one_of(&[PLAIN, PLAIN, FRAMES]);
    let mut scene = draw.scene(frames, wish);
    if draw.chance(0.35) {
        scene.patient = scene.patient.map(|patient| draw.judged(patient, Class::Polar));
    }
    let form = draw.form(&scene);
    let mut sentences = vec![format!("{} .", render::clause(&scene, form))];
    for _ in 0..=draw.below(3) {
        sentences.push(format!("{} .", sequel(draw, &scene)));
    }
    sentences
}

/// A further sentence of the story, without its full stop.
fn sequel(draw: &mut Draw, scene: &Scene) -> String {
    let Some(patient) = scene.patient else {
        return if draw.chance(0.5) { described(draw, scene.agent) } else { went_on(draw, scene.agent) };
    };
    match draw.below(10) {
        0..4 => again(draw, scene, patient),
        4..7 => felt(draw, scene, patient),
        7..9 => {
            let noun = draw.one_of(&[scene.agent, patient, patient]);
            described(draw, noun)
        }
        _ => went_on(draw, scene.agent),
    }
}

/// The event once more in other words.
fn again(draw: &mut Draw, scene: &Scene, patient: Noun) -> String {
    let verb = if scene.verb.class == Class::Intransitive || draw.chance(0.5) {
        draw.synonym(scene.verb)
    } else {
        plain(scene).verb
    };
    let past = &lemma(verb).past;
    let place = match scene.place {
        Some(place) if draw.chance(0.3) => format!(" {}", render::place(place)),
        Some(place) if draw.chance(0.3) => format!(" {}", render::place(kind(place.class))),
        _ => String::new(),
    };
    let object = object(draw, patient);
    if draw.chance(0.2) && object != "it" {
        let agent = self::object(draw, scene.agent);
        return format!("{object} {} {past} by {agent}{place}", render::be(patient.plural));
    }
    format!("{} {past} {object}{place}", subject(draw, scene.agent))
}

/// What those who took part thought of it; follows from the verb or the adjective where these judge.
fn felt(draw: &mut Draw, scene: &Scene, patient: Noun) -> String {
    let by_adjective = patient.adjective.and_then(judgement).map(|judged| judged.side);
    let by_verb = (scene.verb.class == Class::Regard).then_some(scene.verb.side);
    let side = by_verb.or(by_adjective).unwrap_or_else(|| draw.below(2));
    match draw.below(5) {
        0 => draw.one_of(if side == 0 { &PLEASED } else { &UPSET }).to_owned(),
        1 => {
            let verb = of_side(draw, Class::Regard, side);
            format!("{} {} {}", subject(draw, scene.agent), lemma(verb).past, object(draw, patient))
        }
        2 => {
            let verb = of_side(draw, Class::Regard, 1 - side);
            let denied = if draw.chance(0.5) {
                format!("did not {}", lemma(verb).base)
            } else {
                format!("never {}", lemma(verb).past)
            };
            format!("{} {denied} {}", subject(draw, scene.agent), object(draw, patient))
        }
        3 => {
            let other = of_side(draw, Class::Polar, side);
            format!("{} {} {}", subject(draw, patient), render::be(patient.plural), lemma(other).base)
        }
        _ => {
            let verb = of_side(draw, Class::Regard, side);
            let reason = of_side(draw, Class::Polar, side);
            let (agent, thing) = (subject(draw, scene.agent), object(draw, patient));
            let be = render::be(patient.plural);
            let pronoun = render::pronoun(patient);
            format!("{agent} {} {thing} because {pronoun} {be} {}", lemma(verb).past, lemma(reason).base)
        }
    }
}

/// `the tool was heavy`, sometimes with what it was not.
fn described(draw: &mut Draw, noun: Noun) -> String {
    let adjective = draw.pick(Class::Dimension);
    let who = subject(draw, noun);
    let be = render::be(noun.plural);
    let text = format!("{who} {be} {}", lemma(adjective).base);
    match draw.antonym(adjective) {
        Some(opposite) if draw.chance(0.5) => {
            let again = if is_ungendered(noun) { who.as_str() } else { render::pronoun(noun) };
            format!("{text} . {again} {be} not {}", lemma(opposite).base)
        }
        _ => text,
    }
}

fn went_on(draw: &mut Draw, agent: Noun) -> String {
    let verb = draw.pick(Class::Intransitive);
    let who = subject(draw, agent);
    let then = if draw.chance(0.5) { "then " } else { "" };
    format!("{then}{who} {}", lemma(verb).past)
}

/// A participant, taken up as a subject.
fn subject(draw: &mut Draw, noun: Noun) -> String {
    if draw.chance(0.35) && !is_ungendered(noun) {
        return render::pronoun(noun).to_owned();
    }
    renamed(draw, noun)
}

/// A participant, taken up as an object; the language has no `him`, `her` and `them`.
fn object(draw: &mut Draw, noun: Noun) -> String {
    let pronoun = render::pronoun(noun);
    if pronoun == "it" && !is_ungendered(noun) && draw.chance(0.25) { pronoun.to_owned() } else { renamed(draw, noun) }
}

/// The same word, a synonym or the kind.
fn renamed(draw: &mut Draw, noun: Noun) -> String {
    let term: Term = match draw.below(3) {
        0 => noun.term,
        1 => draw.synonym(noun.term),
        _ => kind(noun.term.class),
    };
    render::noun(Noun { term, adjective: None, plural: noun.plural })
}

/// A lone doctor is neither `he` nor `she` nor `it`.
fn is_ungendered(noun: Noun) -> bool {
    noun.term.class == Class::Occupation && !noun.plural
}

fn of_side(draw: &mut Draw, class: Class, side: usize) -> Term {
    loop {
        let term = draw.pick(class);
        if term.side == side {
            return term;
        }
    }
}
