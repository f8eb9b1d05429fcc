//! A proposition: who did what to whom, where, and whether.

use super::draw::Draw;
use super::lexicon::{Class, Term};
use super::render::Form;

/// People by name.
pub const NAMES: &[Class] = &[Class::Female, Class::Male];
/// People by name or by occupation.
pub const PEOPLE: &[Class] = &[Class::Female, Class::Male, Class::Occupation];
/// Living beings that are not people.
pub const ANIMALS: &[Class] = &[Class::Bird, Class::Fish, Class::Insect, Class::Mammal];
/// Things a person can hold or use.
pub const OBJECTS: &[Class] =
    &[Class::Tool, Class::Vehicle, Class::Garment, Class::Instrument, Class::Container, Class::Furniture];
/// What a person eats or drinks.
pub const FOODS: &[Class] = &[Class::Fruit, Class::Vegetable, Class::Dish, Class::Drink];
/// Where a scene happens.
pub const PLACES: &[Class] = &[Class::Room, Class::Building, Class::City];

/// A participant: a noun, its adjective, its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Noun {
    /// The noun.
    pub term: Term,
    /// An adjective before it.
    pub adjective: Option<Term>,
    /// Whether it is plural.
    pub plural: bool,
}

impl Noun {
    /// A bare singular noun.
    pub fn bare(term: Term) -> Self {
        Self { term, adjective: None, plural: false }
    }

    /// Whether the noun is a person's name, which takes no article and no adjective.
    pub fn is_name(self) -> bool {
        NAMES.contains(&self.term.class)
    }
}

/// When a scene happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Term);

/// A proposition about one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scene {
    /// Who acts.
    pub agent: Noun,
    /// The action.
    pub verb: Term,
    /// Who or what is acted upon; `None` exactly for intransitive verbs.
    pub patient: Option<Noun>,
    /// Where.
    pub place: Option<Term>,
    /// When.
    pub time: Option<Time>,
    /// How.
    pub manner: Option<Term>,
    /// Whether the event did not happen.
    pub negated: bool,
}

/// A proposition about what something is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quality {
    /// What is described.
    pub noun: Noun,
    /// The description.
    pub adjective: Term,
    /// Whether the description is denied.
    pub negated: bool,
}

/// A verb class with the classes of its agents and patients.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// The verbs.
    pub verb: Class,
    /// Who acts.
    pub agents: &'static [Class],
    /// What is acted upon; empty for intransitive verbs.
    pub patients: &'static [Class],
}

/// The frames of events; selectional facts are the same in the corpus and in every task.
pub const FRAMES: &[Frame] = &[
    Frame { verb: Class::Social, agents: PEOPLE, patients: PEOPLE },
    Frame { verb: Class::Handle, agents: PEOPLE, patients: OBJECTS },
    Frame { verb: Class::Consume, agents: PEOPLE, patients: FOODS },
    Frame { verb: Class::Hunt, agents: ANIMALS, patients: ANIMALS },
    Frame {
        verb: Class::Intransitive,
        agents: &[Class::Occupation, Class::Bird, Class::Mammal, Class::Female, Class::Male],
        patients: &[],
    },
];

/// The frames with a patient.
pub const TRANSITIVE: &[Frame] = FRAMES.split_at(4).0;

/// The frames whose scenes have plain words for every part.
pub const PLAIN: &[Frame] = &[
    Frame { verb: Class::Social, agents: PEOPLE, patients: PEOPLE },
    Frame { verb: Class::Handle, agents: PEOPLE, patients: OBJECTS },
    Frame { verb: Class::Consume, agents: PEOPLE, patients: FOODS },
    Frame { verb: Class::Hunt, agents: ANIMALS, patients: ANIMALS },
    Frame { verb: Class::Regard, agents: PEOPLE, patients: OBJECTS },
    Frame { verb: Class::Regard, agents: PEOPLE, patients: FOODS },
    Frame { verb: Class::Regard, agents: PEOPLE, patients: ANIMALS },
];

/// What a scene should contain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// Probability of an adjective on a noun that can have one.
    pub adjective: f64,
    /// Probability of a plural where the class has one.
    pub plural: f64,
    /// Probability of a place.
    pub place: f64,
    /// Probability of a time.
    pub time: f64,
    /// Probability of an adverb of manner.
    pub manner: f64,
    /// Probability of negation.
    pub negated: f64,
}

impl Draw {
    /// A scene of one of the frames.
    pub fn scene(&mut self, frames: &[Frame], wish: Wish) -> Scene {
        let frame = self.one_of(frames);
        let agent = self.noun(frame.agents, wish);
        let verb = self.pick(frame.verb);
        let patient = (!frame.patients.is_empty()).then(|| {
            loop {
                let patient = self.noun(frame.patients, wish);
                if (patient.term.class, patient.term.group) != (agent.term.class, agent.term.group) {
                    break patient;
                }
            }
        });
        Scene {
            agent,
            verb,
            patient,
            place: self.chance(wish.place).then(|| self.pick_from(PLACES)),
            time: self.chance(wish.time).then(|| self.time()),
            manner: self.chance(wish.manner).then(|| self.pick(Class::Manner)),
            negated: self.chance(wish.negated),
        }
    }

    /// A weekday or a month.
    pub fn time(&mut self) -> Time {
        let class = self.one_of(&[Class::Weekday, Class::Month]);
        Time(self.pick(class))
    }

    /// A participant of one of the classes.
    pub fn noun(&mut self, classes: &[Class], wish: Wish) -> Noun {
        let term = self.pick_from(classes);
        let mut noun = Noun::bare(term);
        if !noun.is_name() {
            noun.plural = !FOODS.contains(&term.class) && self.chance(wish.plural);
            noun.adjective = self.chance(wish.adjective).then(|| self.adjective(term.class));
        }
        noun
    }

    /// The noun with an adjective of the class, where it can have one.
    pub fn judged(&mut self, noun: Noun, class: Class) -> Noun {
        if noun.is_name() { noun } else { Noun { adjective: Some(self.pick(class)), ..noun } }
    }

    /// An adjective that suits a noun of the class.
    pub fn adjective(&mut self, class: Class) -> Term {
        let classes: &[Class] = if OBJECTS.contains(&class) {
            &[Class::Dimension, Class::Dimension, Class::Colour, Class::Material]
        } else if PEOPLE.contains(&class) {
            &[Class::Dimension]
        } else {
            &[Class::Dimension, Class::Dimension, Class::Colour]
        };
        let chosen = self.one_of(classes);
        self.pick(chosen)
    }

    /// A wording, sometimes passive or with its place first.
    pub fn form(&mut self, scene: &Scene) -> Form {
        Form {
            passive: scene.patient.is_some() && self.chance(0.1),
            fronted: (scene.place.is_some() || scene.time.is_some()) && self.chance(0.1),
        }
    }
}
