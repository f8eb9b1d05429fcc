//! `cola`: acceptable sentences, and sentences broken in one place.
//!
//! A broken sentence has the length and the function words of an intact one: the verb takes the other number, an adjective and its
//! noun or a verb and its adverb change places, or a verb meets a participant of the wrong class.

use crate::language::draw::Draw;
use crate::language::lexicon::{Class, Term};
use crate::language::render::{self, Form};
use crate::language::scene::{ANIMALS, FOODS, FRAMES, Noun, OBJECTS, Quality, TRANSITIVE, Wish};
use crate::task::Example;

const ACCEPTABLE_SHARE: f64 = 0.68;

const WISH: Wish = Wish { adjective: 0.3, plural: 0.4, place: 0.3, time: 0.0, manner: 0.2, negated: 0.1 };

/// One sentence; label 1 if acceptable.
pub fn example(draw: &mut Draw) -> Example {
    let acceptable = draw.chance(ACCEPTABLE_SHARE);
    let text = match draw.below(3) {
        0 => agreement(draw, acceptable),
        1 => order(draw, acceptable),
        _ => selection(draw, acceptable),
    };
    Example { first: format!("{text} ."), second: None, label: f32::from(u8::from(acceptable)) }
}

fn agreement(draw: &mut Draw, acceptable: bool) -> String {
    let scene = draw.scene(FRAMES, Wish { negated: 0.0, ..WISH });
    if draw.chance(0.3) && !scene.agent.is_name() {
        let quality = Quality { noun: scene.agent, adjective: draw.pick(Class::Dimension), negated: false };
        let spoken = Quality { noun: Noun { adjective: None, ..quality.noun }, ..quality };
        let text = render::quality(&spoken);
        return if acceptable { text } else { other_number(&text, spoken.noun.plural) };
    }
    render::present(&scene, acceptable)
}

fn other_number(text: &str, plural: bool) -> String {
    let (right, wrong) = (render::be(plural), render::be(!plural));
    text.replacen(&format!(" {right} "), &format!(" {wrong} "), 1)
}

/// Exchanges the two words of a neighbouring pair that has one order only.
fn order(draw: &mut Draw, acceptable: bool) -> String {
    let mut scene = draw.scene(TRANSITIVE, WISH);
    let adjective = |draw: &mut Draw, noun: &mut Noun| {
        if !noun.is_name() && noun.adjective.is_none() {
            noun.adjective = Some(draw.adjective(noun.term.class));
        }
    };
    adjective(draw, &mut scene.agent);
    if let Some(patient) = &mut scene.patient {
        adjective(draw, patient);
    }
    let form = draw.form(&scene);
    let text = render::clause(&scene, form);
    if acceptable {
        return text;
    }
    let nouns: Vec<Noun> =
        [Some(scene.agent), scene.patient].into_iter().flatten().filter(|n| n.adjective.is_some()).collect();
    if nouns.is_empty() {
        // Two names: the verb and its object change places, or the verb and its subject.
        let mut words: Vec<&str> = text.split(' ').collect();
        let past = &render::lemma(scene.verb).past;
        let at = words.iter().position(|w| w == past).unwrap_or(1).max(1);
        words.swap(at - 1, at);
        return words.join(" ");
    }
    let noun = draw.one_of(&nouns);
    let Some(adjective) = noun.adjective else { unreachable!("nouns without an adjective are filtered out") };
    let lemma = render::lemma(noun.term);
    let head = if noun.plural { &lemma.marked } else { &lemma.base };
    let adjective = &render::lemma(adjective).base;
    text.replacen(&format!("the {adjective} {head}"), &format!("the {head} {adjective}"), 1)
}

/// Gives a verb an agent or a patient of a class it does not take.
fn selection(draw: &mut Draw, acceptable: bool) -> String {
    let mut scene = draw.scene(TRANSITIVE, WISH);
    if !acceptable {
        let wrong = wrong_patients(scene.verb);
        if draw.chance(0.5) {
            scene.agent = draw.noun(OBJECTS, Wish { plural: 0.4, ..WISH });
        } else {
            scene.patient = Some(draw.noun(wrong, WISH));
        }
    }
    let form = draw.form(&scene);
    render::clause(&scene, Form { fronted: false, ..form })
}

fn wrong_patients(verb: Term) -> &'static [Class] {
    match verb.class {
        Class::Handle => FOODS,
        Class::Consume => ANIMALS,
        _ => OBJECTS,
    }
}
