//! Changes that keep, widen or break the meaning of a scene.

use super::draw::Draw;
use super::lexicon::Term;
use super::render::{Form, kind, wider_kind};
use super::scene::{Noun, Scene};

/// A part of a scene that an edit can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// The agent's noun.
    Agent,
    /// The verb.
    Verb,
    /// The patient's noun.
    Patient,
    /// The place.
    Place,
    /// The agent's adjective.
    AgentAdjective,
    /// The patient's adjective.
    PatientAdjective,
}

/// The slots a scene fills.
pub fn slots(scene: &Scene) -> Vec<Slot> {
    let all = [Slot::Agent, Slot::Verb, Slot::Patient, Slot::Place, Slot::AgentAdjective, Slot::PatientAdjective];
    all.into_iter().filter(|&slot| read(scene, slot).is_some()).collect()
}

/// The word in a slot.
pub fn read(scene: &Scene, slot: Slot) -> Option<Term> {
    match slot {
        Slot::Agent => Some(scene.agent.term),
        Slot::Verb => Some(scene.verb),
        Slot::Patient => scene.patient.map(|p| p.term),
        Slot::Place => scene.place,
        Slot::AgentAdjective => scene.agent.adjective,
        Slot::PatientAdjective => scene.patient.and_then(|p| p.adjective),
    }
}

/// The scene with another word in a filled slot.
pub fn with(scene: &Scene, slot: Slot, term: Term) -> Scene {
    let mut scene = *scene;
    match slot {
        Slot::Agent => scene.agent.term = term,
        Slot::Verb => scene.verb = term,
        Slot::Patient => scene.patient = scene.patient.map(|p| Noun { term, ..p }),
        Slot::Place => scene.place = Some(term),
        Slot::AgentAdjective => scene.agent.adjective = Some(term),
        Slot::PatientAdjective => scene.patient = scene.patient.map(|p| Noun { adjective: Some(term), ..p }),
    }
    scene
}

/// Agent and patient exchanged, where both are people or both are animals of one frame.
pub fn swapped(scene: &Scene) -> Option<Scene> {
    let patient = scene.patient?;
    let reversible = matches!(scene.verb.class.section(), "social" | "hunt");
    reversible.then_some(Scene { agent: patient, patient: Some(scene.agent), ..*scene })
}

/// The scene with the noun of a slot replaced by its kind: `sparrow` by `bird` or `animal`.
pub fn widened(scene: &Scene, slot: Slot, wider: bool) -> Option<Scene> {
    let term = read(scene, slot)?;
    if !matches!(slot, Slot::Agent | Slot::Patient | Slot::Place) {
        return None;
    }
    Some(with(scene, slot, if wider { wider_kind(term.class) } else { kind(term.class) }))
}

impl Draw {
    /// The same meaning: each word becomes a synonym with this probability.
    pub fn paraphrase(&mut self, scene: &Scene, probability: f64) -> Scene {
        slots(scene).into_iter().fold(*scene, |scene, slot| {
            let Some(term) = read(&scene, slot) else { return scene };
            if self.chance(probability) { with(&scene, slot, self.synonym(term)) } else { scene }
        })
    }

    /// Another meaning: the word of the slot becomes one of its class that means something else. A noun never becomes the other
    /// participant.
    pub fn substitute(&mut self, scene: &Scene, slot: Slot) -> Scene {
        let Some(term) = read(scene, slot) else { unreachable!("slot {slot:?} of {scene:?} is empty") };
        let participants = [Some(scene.agent.term), scene.patient.map(|p| p.term)];
        let taken = |t: Term| participants.into_iter().flatten().any(|p| (p.class, p.group) == (t.class, t.group));
        loop {
            let other = self.sibling(term);
            if !taken(other) {
                return with(scene, slot, other);
            }
        }
    }

    /// A wording, passive where there is a patient and the coin says so.
    pub fn form(&mut self, scene: &Scene) -> Form {
        Form {
            passive: scene.patient.is_some() && self.chance(0.12),
            fronted: (scene.place.is_some() || scene.time.is_some()) && self.chance(0.1),
        }
    }
}
