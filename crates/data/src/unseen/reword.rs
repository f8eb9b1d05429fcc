//! The same event in other words, and another event in nearly the same words.

use crate::language::draw::Draw;
use crate::language::lexicon::{Class, Term};
use crate::language::render::{self, lemma};
use crate::language::scene::{ANIMALS, FOODS, Noun, OBJECTS, PEOPLE, Scene};

/// Share of the words that have synonyms of which most tasks take one.
pub(super) const MOST: f64 = 0.7;

const FAMILIES: [&[Class]; 4] = [PEOPLE, ANIMALS, OBJECTS, FOODS];

/// A part of a scene that a near miss changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Agent,
    Verb,
    Patient,
    Place,
    /// Agent and patient change places.
    Roles,
}

/// The parts of a scene that can change.
pub(super) fn parts(scene: &Scene) -> Vec<Part> {
    let mut parts = vec![Part::Agent, Part::Verb];
    if let Some(patient) = scene.patient {
        parts.push(Part::Patient);
        if swappable(scene.agent, patient) {
            parts.push(Part::Roles);
        }
    }
    if scene.place.is_some() {
        parts.push(Part::Place);
    }
    parts
}

/// Whether each of the two can do what the other does.
fn swappable(agent: Noun, patient: Noun) -> bool {
    [PEOPLE, ANIMALS].iter().any(|family| family.contains(&agent.term.class) && family.contains(&patient.term.class))
}

impl Draw {
    /// The scene with synonyms for a share of its words that have any.
    pub(super) fn reworded(&mut self, scene: &Scene, share: f64) -> Scene {
        let mut other = |term: Term| if self.chance(share) { self.synonym(term) } else { term };
        let agent = Noun { term: other(scene.agent.term), ..scene.agent };
        let verb = other(scene.verb);
        let patient = scene.patient.map(|patient| Noun { term: other(patient.term), ..patient });
        Scene { agent, verb, patient, ..*scene }
    }

    /// The scene with another word in one part, or with its roles exchanged.
    pub(super) fn altered(&mut self, scene: &Scene, part: Part) -> Scene {
        let mut other = *scene;
        match part {
            Part::Agent => other.agent.term = self.other_than(scene.agent.term, scene.patient.map(|p| p.term)),
            Part::Verb => other.verb = self.other_verb(scene.verb),
            Part::Patient => {
                other.patient =
                    scene.patient.map(|p| Noun { term: self.other_than(p.term, Some(scene.agent.term)), ..p });
            }
            Part::Place => other.place = scene.place.map(|place| self.sibling(place)),
            Part::Roles => {
                if let Some(patient) = scene.patient {
                    other.agent = patient;
                    other.patient = Some(scene.agent);
                }
            }
        }
        other
    }

    /// The scene with `n` of its parts altered, or all that it has.
    pub(super) fn altered_in(&mut self, scene: &Scene, mut parts: Vec<Part>, n: usize) -> Scene {
        let mut other = *scene;
        for _ in 0..n.min(parts.len()) {
            let part = parts.swap_remove(self.below(parts.len()));
            other = self.altered(&other, part);
        }
        other
    }

    /// A word of another kind, or of the same kind from another group, which is not the other participant's.
    fn other_than(&mut self, term: Term, taken: Option<Term>) -> Term {
        let family = FAMILIES.into_iter().find(|family| family.contains(&term.class)).unwrap_or(OBJECTS);
        loop {
            let class = self.one_of(family);
            let other = if class == term.class { self.sibling(term) } else { self.pick(class) };
            if taken.is_none_or(|taken| (taken.class, taken.group) != (other.class, other.group)) {
                return other;
            }
        }
    }

    /// The opposite of a verb of regard, or another verb of the class.
    fn other_verb(&mut self, verb: Term) -> Term {
        match self.antonym(verb) {
            Some(opposite) if verb.class == Class::Regard => opposite,
            _ => self.sibling(verb),
        }
    }
}

/// ` in paris`, or nothing.
pub(super) fn at_place(scene: &Scene) -> String {
    scene.place.map(|place| format!(" {}", render::place(place))).unwrap_or_default()
}

/// ` the drill`, or nothing.
pub(super) fn object(scene: &Scene) -> String {
    scene.patient.map(|patient| format!(" {}", render::noun(patient))).unwrap_or_default()
}

/// `fixed`.
pub(super) fn past(scene: &Scene) -> &'static str {
    &lemma(scene.verb).past
}
