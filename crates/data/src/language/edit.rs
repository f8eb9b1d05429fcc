//! Changes to scenes: the same in plain words, and the same in plain words but for one detail.
//!
//! Plain words are few and name attributes: `mary repaired the splendid drill in paris` is `the woman used the good tool in a city`.
//! Whether a plain sentence follows from a specific one is a matter of each word's attribute, which pretraining teaches for every
//! word and train splits show for some.

use super::draw::Draw;
use super::lexicon::{Class, Term, lexicon};
use super::render::kind;
use super::scene::{ANIMALS, FOODS, Noun, OBJECTS, PEOPLE, PLACES, Scene};

/// A part of a scene that can disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// The kind of the agent.
    Agent,
    /// Whether the agent likes or dislikes the patient.
    Verb,
    /// The kind of the patient.
    Patient,
    /// The kind of the place.
    Place,
    /// Whether the patient is good or bad.
    Judgement,
}

/// The slots of a plain scene in which [`Draw::mistaken`] can put another value.
pub fn slots(plain: &Scene) -> Vec<Slot> {
    let all = [Slot::Agent, Slot::Verb, Slot::Patient, Slot::Place, Slot::Judgement];
    all.into_iter().filter(|&slot| filled(plain, slot)).collect()
}

fn filled(plain: &Scene, slot: Slot) -> bool {
    match slot {
        Slot::Agent => true,
        Slot::Verb => opinion(plain.verb).is_some(),
        Slot::Patient => plain.patient.is_some(),
        Slot::Place => plain.place.is_some(),
        Slot::Judgement => plain.patient.is_some_and(|p| p.adjective.is_some()),
    }
}

/// The scene in plain words. An adjective that is no judgement is dropped.
pub fn plain(scene: &Scene) -> Scene {
    let noun = |n: Noun| Noun { term: kind(n.term.class), adjective: n.adjective.and_then(judgement), ..n };
    Scene {
        agent: noun(scene.agent),
        verb: general(scene.verb),
        patient: scene.patient.map(noun),
        place: scene.place.map(|p| kind(p.class)),
        ..*scene
    }
}

/// `good` or `bad`, where the adjective says so.
pub fn judgement(adjective: Term) -> Option<Term> {
    (adjective.class == Class::Polar).then_some(Term {
        class: Class::Judgement,
        group: 0,
        side: adjective.side,
        member: 0,
    })
}

/// `used`, for any way of handling.
fn general(verb: Term) -> Term {
    let name = match verb.class {
        Class::Social => "meet",
        Class::Handle => "use",
        Class::Consume => "eat",
        Class::Hunt => "hunt",
        Class::Regard if verb.side == 0 => "like",
        Class::Regard => "dislike",
        other => unreachable!("no plain verb stands for class `{}`", other.section()),
    };
    general_named(name)
}

fn general_named(name: &str) -> Term {
    let group = lexicon().groups(Class::General).iter().position(|g| g.sides[0][0].base == name);
    let Some(group) = group else { unreachable!("lexicon.txt lists no general verb `{name}`") };
    Term { class: Class::General, group, side: 0, member: 0 }
}

/// The opposite of `like` or `dislike`.
fn opinion(verb: Term) -> Option<Term> {
    let (like, dislike) = (general_named("like"), general_named("dislike"));
    [(like, dislike), (dislike, like)].into_iter().find(|&(from, _)| from == verb).map(|(_, to)| to)
}

const FAMILIES: [&[Class]; 5] = [PEOPLE, ANIMALS, OBJECTS, FOODS, PLACES];

impl Draw {
    /// The plain scene with another value in the slot: another kind of the same family, or the opposite opinion or judgement.
    pub fn mistaken(&mut self, plain: &Scene, slot: Slot) -> Scene {
        let mut scene = *plain;
        match slot {
            Slot::Agent => scene.agent.term = self.other_kind(plain.agent.term),
            Slot::Verb => scene.verb = opinion(plain.verb).unwrap_or(plain.verb),
            Slot::Patient => scene.patient = plain.patient.map(|p| Noun { term: self.other_kind(p.term), ..p }),
            Slot::Place => scene.place = plain.place.map(|p| self.other_kind(p)),
            Slot::Judgement => {
                let opposite = |a: Term| Term { side: 1 - a.side, ..a };
                scene.patient = plain.patient.map(|p| Noun { adjective: p.adjective.map(opposite), ..p });
            }
        }
        scene
    }

    /// The plain scene with one or two mistakes.
    pub fn near_miss(&mut self, plain: &Scene) -> Scene {
        let mut left = slots(plain);
        let mut scene = *plain;
        for _ in 0..if self.chance(0.5) { 2 } else { 1 } {
            if left.is_empty() {
                break;
            }
            let slot = left.remove(self.below(left.len()));
            scene = self.mistaken(&scene, slot);
        }
        scene
    }

    fn other_kind(&mut self, term: Term) -> Term {
        let family = FAMILIES.into_iter().find(|f| f.iter().any(|&c| kind(c) == term));
        let Some(family) = family else { unreachable!("{term:?} is no kind") };
        loop {
            let class = self.one_of(family);
            let other = kind(class);
            if other != term {
                return other;
            }
        }
    }
}
