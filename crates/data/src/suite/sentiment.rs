//! `sst2`: praise and blame, with negation and intensifiers.

use crate::language::draw::Draw;
use crate::language::lexicon::{Class, Term};
use crate::language::render::{self, Form, lemma};
use crate::language::scene::{FOODS, NAMES, Noun, OBJECTS, Scene};
use crate::task::Example;

const INTENSIFIERS: [&str; 5] = ["very", "really", "extremely", "quite", "so"];
const DENIALS: [&str; 2] = ["not", "never"];
const COPULAS: [&str; 3] = ["seemed", "looked", "remained"];

/// One sentence; label 1 if it speaks well of its subject.
pub fn example(draw: &mut Draw) -> Example {
    let negated = draw.chance(0.2);
    let (text, word) = match draw.below(5) {
        0 | 1 => described(draw, negated),
        2 => found(draw, negated),
        3 => said(draw, negated),
        _ => regarded(draw, negated),
    };
    // Side 0 of an antonym pair is the favourable one.
    let positive = (word.side == 0) != negated;
    Example { first: format!("{text} ."), second: None, label: f32::from(u8::from(positive)) }
}

/// `the soup was not very great`, `the soup never seemed great`.
fn described(draw: &mut Draw, negated: bool) -> (String, Term) {
    let (subject, word) = (subject(draw), draw.pick(Class::Polar));
    let intensity = intensity(draw);
    let adjective = &lemma(word).base;
    if draw.chance(0.5) {
        let not = if negated { format!("{} ", draw.one_of(&DENIALS)) } else { String::new() };
        (format!("{subject} was {not}{intensity}{adjective}"), word)
    } else {
        let never = if negated { "never " } else { "" };
        (format!("{subject} {never}{} {intensity}{adjective}", draw.one_of(&COPULAS)), word)
    }
}

/// `mary found the soup great`, `mary never found the soup great`.
fn found(draw: &mut Draw, negated: bool) -> (String, Term) {
    let (name, subject, word) = (name(draw), subject(draw), draw.pick(Class::Polar));
    let never = if negated { "never " } else { "" };
    (format!("{name} {never}found {subject} {}{}", intensity(draw), lemma(word).base), word)
}

/// `mary said that the soup was not great`.
fn said(draw: &mut Draw, negated: bool) -> (String, Term) {
    let name = name(draw);
    let (clause, word) = described(draw, negated);
    (format!("{name} said that {clause}"), word)
}

/// `mary did not recommend the soup`.
fn regarded(draw: &mut Draw, negated: bool) -> (String, Term) {
    let verb = draw.pick(Class::Regard);
    let scene = Scene {
        agent: Noun::bare(draw.pick_from(NAMES)),
        verb,
        patient: Some(Noun::bare(draw.pick_from(&[OBJECTS, FOODS].concat()))),
        place: None,
        time: None,
        manner: None,
        negated,
    };
    (render::clause(&scene, Form { passive: draw.chance(0.3), fronted: false }), verb)
}

fn name(draw: &mut Draw) -> String {
    render::noun(Noun::bare(draw.pick_from(NAMES)))
}

fn subject(draw: &mut Draw) -> String {
    let classes = [OBJECTS, FOODS, &[Class::Building, Class::Room, Class::Occupation]].concat();
    render::noun(Noun::bare(draw.pick_from(&classes)))
}

fn intensity(draw: &mut Draw) -> String {
    if draw.chance(0.4) { format!("{} ", draw.one_of(&INTENSIFIERS)) } else { String::new() }
}
