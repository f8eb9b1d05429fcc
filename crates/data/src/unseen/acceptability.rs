//! `acceptability`: does the verb agree with the head of its subject, over a clause in between?
//!
//! In the stories a verb stands beside its subject. Here a relative clause stands between them, and its noun has the other number in
//! half of the sentences, so that agreement with the nearest noun is a coin.

use crate::language::draw::Draw;
use crate::language::lexicon::{Class, Term};
use crate::language::render::{self, lemma};
use crate::language::scene::{ANIMALS, FOODS, FRAMES, Frame, Noun, OBJECTS, PEOPLE, TRANSITIVE, Wish};
use crate::task::Example;

/// One sentence; label 1 if every verb agrees with its own subject.
pub(super) fn example(draw: &mut Draw) -> Example {
    let acceptable = draw.chance(0.5);
    // A relative clause with a verb in the present has two places where agreement can break.
    let both = draw.chance(0.5);
    let breaks_main = !acceptable && (!both || draw.chance(0.5));
    let breaks_inner = !acceptable && !breaks_main;
    let head = counted(draw, &[&[Class::Occupation], ANIMALS].concat());
    let inner = if both { within_present(draw, head, breaks_inner) } else { within_past(draw, head) };
    let predicate = predicate(draw, head, breaks_main);
    let text = format!("{} that {inner} {predicate} .", render::noun(head));
    Example { first: text, second: None, label: f32::from(u8::from(acceptable)) }
}

/// A noun in the singular or the plural.
fn counted(draw: &mut Draw, classes: &[Class]) -> Noun {
    let term = draw.pick_from(classes);
    Noun { plural: draw.chance(0.5), ..Noun::bare(term) }
}

/// A verb with the agents and patients it takes, for a head of the class.
fn frame(draw: &mut Draw, class: Class) -> Frame {
    loop {
        let frame = draw.one_of(TRANSITIVE);
        if frame.agents.contains(&class) {
            return frame;
        }
    }
}

/// `the doctor met in paris`, `met the doctors`: no agreement inside.
fn within_past(draw: &mut Draw, head: Noun) -> String {
    let (other, verb) = companion(draw, head);
    let past = &lemma(verb).past;
    if draw.chance(0.5) { format!("{} {past}", render::noun(other)) } else { format!("{past} {}", render::noun(other)) }
}

/// `the doctor meets`, `meets the doctors`: agreement inside, with the other noun or with the head.
fn within_present(draw: &mut Draw, head: Noun, broken: bool) -> String {
    let (other, verb) = companion(draw, head);
    if draw.chance(0.5) {
        format!("{} {}", render::noun(other), inflected(verb, other.plural != broken))
    } else {
        format!("{} {}", inflected(verb, head.plural != broken), render::noun(other))
    }
}

/// Another of the head's kind of being, and what one can do to the other.
fn companion(draw: &mut Draw, head: Noun) -> (Noun, Term) {
    let is_person = PEOPLE.contains(&head.term.class);
    let (class, others) = if is_person { (Class::Social, &[Class::Occupation][..]) } else { (Class::Hunt, ANIMALS) };
    loop {
        let other = counted(draw, others);
        if (other.term.class, other.term.group) != (head.term.class, head.term.group) {
            return (other, draw.pick(class));
        }
    }
}

/// `polish the lamps`, `are big`, `sleep in paris`.
fn predicate(draw: &mut Draw, head: Noun, broken: bool) -> String {
    let plural = head.plural != broken;
    match draw.below(3) {
        0 => format!("{} {}", if plural { "are" } else { "is" }, lemma(draw.pick(Class::Dimension)).base),
        1 => {
            let frame = frame(draw, head.term.class);
            let verb = draw.pick(frame.verb);
            let patients: Vec<Class> = frame
                .patients
                .iter()
                .copied()
                .filter(|class| [OBJECTS, FOODS, ANIMALS].concat().contains(class))
                .collect();
            let patients = if patients.is_empty() { vec![Class::Occupation] } else { patients };
            let patient = draw.noun(&patients, Wish { plural: 0.5, ..Wish::default() });
            format!("{} {}", inflected(verb, plural), render::noun(patient))
        }
        _ => {
            let verb = draw.pick(FRAMES[4].verb);
            let manner = draw.pick(Class::Manner);
            format!("{} {}", lemma(manner).base, inflected(verb, plural))
        }
    }
}

fn inflected(verb: Term, plural: bool) -> &'static str {
    if plural { &lemma(verb).base } else { &lemma(verb).marked }
}
