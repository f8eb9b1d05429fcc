//! `wnli`: whom does the pronoun mean?
//!
//! Gender of names, number of nouns, and animacy decide; candidates come in both orders and their wording does not tell.

use crate::language::draw::Draw;
use crate::language::lexicon::Class;
use crate::language::render::{self, Form, lemma};
use crate::language::scene::{ANIMALS, Noun, OBJECTS, Scene, Wish};
use crate::task::Example;

const CONJUNCTIONS: [&str; 4] = ["because", "although", "after", "when"];

/// A sentence with a pronoun and a sentence with a noun in its place; label 1 if the noun is meant.
pub fn example(draw: &mut Draw) -> Example {
    let (first, second, verb) = match draw.below(20) {
        0..12 => genders(draw),
        12..17 => numbers(draw),
        _ => animacy(draw),
    };
    let meant_first = draw.chance(0.5);
    let meant = if meant_first { first } else { second };
    let pronoun = spoken(meant);
    let predicate = predicate(draw, verb);
    let scene = Scene {
        agent: first,
        verb: draw.pick(verb),
        patient: Some(second),
        place: None,
        time: None,
        manner: None,
        negated: false,
    };
    let clause = render::clause(&scene, Form::default());
    let conjunction = draw.one_of(&CONJUNCTIONS);
    let entailed = draw.chance(0.5);
    let named = if meant_first == entailed { first } else { second };
    Example {
        first: format!("{clause} {conjunction} {pronoun} {predicate} ."),
        second: Some(format!("{} {predicate} .", render::noun(named))),
        label: f32::from(u8::from(entailed)),
    }
}

fn genders(draw: &mut Draw) -> (Noun, Noun, Class) {
    let (a, b) = (Noun::bare(draw.pick(Class::Female)), Noun::bare(draw.pick(Class::Male)));
    if draw.chance(0.5) { (a, b, Class::Social) } else { (b, a, Class::Social) }
}

fn numbers(draw: &mut Draw) -> (Noun, Noun, Class) {
    let wish = Wish::default();
    let classes: &[Class] = if draw.chance(0.5) { ANIMALS } else { &[Class::Occupation] };
    let verb = if classes == ANIMALS { Class::Hunt } else { Class::Social };
    let first = draw.noun(classes, wish);
    let term = draw.sibling(first.term);
    let plural_first = draw.chance(0.5);
    let (first, second) = (Noun { plural: plural_first, ..first }, Noun { plural: !plural_first, ..Noun::bare(term) });
    (first, second, verb)
}

fn animacy(draw: &mut Draw) -> (Noun, Noun, Class) {
    (Noun::bare(draw.pick(Class::Occupation)), Noun::bare(draw.pick_from(OBJECTS)), Class::Handle)
}

/// One worker is `she or he` in full, so that the pronoun names no gender; `it` is a thing or an animal.
fn spoken(noun: Noun) -> &'static str {
    if noun.term.class == Class::Occupation && !noun.plural { "she or he" } else { render::pronoun(noun) }
}

/// A past tense that any participant can take, alike in singular and plural.
fn predicate(draw: &mut Draw, verb: Class) -> String {
    if verb == Class::Handle {
        return format!("was {}", lemma(draw.pick(Class::Polar)).base);
    }
    lemma(draw.pick(Class::Intransitive)).past.clone()
}
