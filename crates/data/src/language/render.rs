//! Surface forms: sentences, passives and questions of scenes.
//!
//! All text is lower-case words separated by single spaces; punctuation is `.`, `,` and `?`, also set off by spaces.

use super::lexicon::{Class, Lemma, Term, lexicon};
use super::scene::{ANIMALS, Bound, FOODS, NAMES, Noun, OBJECTS, PEOPLE, Quality, Scene, Time};

/// Words with a grammatical role, not listed in any class.
pub const FUNCTION_WORDS: &str = ". , ? the a an is are was were did not never by in at on and or but because although after when \
     while that it he she they his her him them to of than more fewer who whom what which where whose how day place \
     time many means opposite both often very really extremely quite so said found seemed looked remained called according \
     reported known everyone nobody smiled complained pleased upset glad sorry grinned frowned one \
     partly yes no maybe then";

/// How a scene is worded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Patient first: `the car was repaired by the doctor`.
    pub passive: bool,
    /// Place or time first: `in the kitchen , ...`.
    pub fronted: bool,
}

/// What a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// `who`, `what`.
    Agent,
    /// `whom`, `what`.
    Patient,
    /// `where`.
    Place,
    /// `when`.
    Time,
}

/// The word a term names.
pub fn lemma(term: Term) -> &'static Lemma {
    lexicon().lemma(term)
}

/// `mary`, `the red car`, `the doctors`, `more than five dogs`.
pub fn noun(noun: Noun) -> String {
    let head = if noun.plural { &lemma(noun.term).marked } else { &lemma(noun.term).base };
    if noun.is_name() {
        return head.clone();
    }
    let adjective = noun.adjective.map(|a| format!("{} ", lemma(a).base)).unwrap_or_default();
    let article = match noun.count {
        None => "the".to_owned(),
        Some(quantity) => {
            let number = &lemma(quantity.number).base;
            match quantity.bound {
                Bound::Exactly => number.clone(),
                Bound::MoreThan => format!("more than {number}"),
                Bound::FewerThan => format!("fewer than {number}"),
            }
        }
    };
    format!("{article} {adjective}{head}")
}

/// `in the kitchen`, `at the library`, `in paris`; for a kind, `in a room`.
pub fn place(term: Term) -> String {
    let word = &lemma(term).base;
    match term.class {
        Class::City => format!("in {word}"),
        Class::Building => format!("at the {word}"),
        Class::Kind => format!("{} a {word}", if word == "building" { "at" } else { "in" }),
        _ => format!("in the {word}"),
    }
}

/// `on monday`, `in june`.
pub fn time(time: Time) -> String {
    let word = &lemma(time.0).base;
    if time.0.class == Class::Weekday { format!("on {word}") } else { format!("in {word}") }
}

/// The clause of a scene in the past tense, without a full stop.
pub fn clause(scene: &Scene, form: Form) -> String {
    let adjuncts = adjuncts(scene);
    let core = match scene.patient {
        Some(patient) if form.passive => {
            let be = be(patient.plural);
            let not = if scene.negated { " not" } else { "" };
            let manner = manner(scene);
            format!("{} {be}{not}{manner} {} by {}", noun(patient), lemma(scene.verb).past, noun(scene.agent))
        }
        patient => {
            let object = patient.map(|p| format!(" {}", noun(p))).unwrap_or_default();
            format!("{} {}{object}", noun(scene.agent), past(scene))
        }
    };
    match (adjuncts.is_empty(), form.fronted) {
        (true, _) => core,
        (false, true) => format!("{adjuncts} , {core}"),
        (false, false) => format!("{core} {adjuncts}"),
    }
}

/// The clause in the present tense. `agree = false` takes the verb form of the other number.
pub fn present(scene: &Scene, agree: bool) -> String {
    let third = scene.agent.plural != agree;
    let verb = if third { &lemma(scene.verb).marked } else { &lemma(scene.verb).base };
    let object = scene.patient.map(|p| format!(" {}", noun(p))).unwrap_or_default();
    let adjuncts = adjuncts(scene);
    let space = if adjuncts.is_empty() { "" } else { " " };
    format!("{}{} {verb}{object}{space}{adjuncts}", noun(scene.agent), manner(scene))
}

/// `the car was repaired in the kitchen`; intransitive scenes keep their agent.
pub fn agentless(scene: &Scene) -> String {
    let Some(patient) = scene.patient else { return clause(scene, Form::default()) };
    let adjuncts = adjuncts(scene);
    let space = if adjuncts.is_empty() { "" } else { " " };
    format!("{} {} {}{space}{adjuncts}", noun(patient), be(patient.plural), lemma(scene.verb).past)
}

/// `the box was not big`.
pub fn quality(quality: &Quality) -> String {
    let not = if quality.negated { " not" } else { "" };
    format!("{} {}{not} {}", noun(quality.noun), be(quality.noun.plural), lemma(quality.adjective).base)
}

/// A question about one role of the scene; `other` chooses the second of two wordings.
pub fn question(scene: &Scene, asked: Asked, other: bool) -> String {
    let verb = lemma(scene.verb);
    let agent = noun(scene.agent);
    let patient = scene.patient.map(noun);
    let be = be(scene.patient.is_some_and(|p| p.plural));
    let object = patient.as_ref().map(|p| format!(" {p}")).unwrap_or_default();
    let active = format!("did {agent} {}{object}", verb.base);
    let passive = patient.as_ref().map(|p| format!("{be} {p} {} by {agent}", verb.past));
    let without = |asked| {
        let mut rest = *scene;
        match asked {
            Asked::Place => rest.place = None,
            Asked::Time => rest.time = None,
            Asked::Agent | Asked::Patient => {}
        }
        adjuncts(&rest)
    };
    let body = match (asked, patient) {
        (Asked::Agent, Some(p)) if other => format!("by {} {be} {p} {}", asked_object(scene.agent), verb.past),
        (Asked::Agent, _) => format!("{} {}{object}", asked_subject(scene.agent), verb.past),
        (Asked::Patient, Some(_)) => {
            let patient = scene.patient.unwrap_or(scene.agent);
            if other {
                format!("{} was {} by {agent}", asked_subject(patient), verb.past)
            } else {
                format!("{} did {agent} {}", asked_object(patient), verb.base)
            }
        }
        (Asked::Patient, None) => format!("what did {agent} {}", verb.base),
        (Asked::Place, _) if other => format!("in which place {}", passive.unwrap_or(active)),
        (Asked::Place, _) => format!("where {active}"),
        (Asked::Time, _) if other => format!("at what time {}", passive.unwrap_or(active)),
        (Asked::Time, _) => format!("when {active}"),
    };
    let adjuncts = without(asked);
    if adjuncts.is_empty() { format!("{body} ?") } else { format!("{body} {adjuncts} ?") }
}

/// `bird`, for [`Class::Bird`], as a word of [`Class::Kind`].
pub fn kind(class: Class) -> Term {
    let name = match class {
        Class::Female => "woman",
        Class::Male => "man",
        Class::Occupation => "worker",
        Class::Furniture => "furnishing",
        other => other.section(),
    };
    kind_named(name)
}

/// `animal`, for [`Class::Bird`]; a class without a wider kind gives [`kind`] again.
pub fn wider_kind(class: Class) -> Term {
    if PEOPLE.contains(&class) {
        kind_named("person")
    } else if ANIMALS.contains(&class) {
        kind_named("animal")
    } else if OBJECTS.contains(&class) {
        kind_named("object")
    } else if FOODS.contains(&class) {
        kind_named("food")
    } else {
        kind(class)
    }
}

fn kind_named(name: &str) -> Term {
    let groups = lexicon().groups(Class::Kind);
    let group = groups.iter().position(|g| g.sides[0][0].base == name);
    let Some(group) = group else { unreachable!("lexicon.txt lists no kind `{name}`") };
    Term { class: Class::Kind, group, side: 0, member: 0 }
}

/// `a` or `an`, as the word demands.
pub fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// `was` or `were`.
pub fn be(plural: bool) -> &'static str {
    if plural { "were" } else { "was" }
}

/// `he`, `she`, `it` or `they`; everything that is neither a name nor plural is `it`.
pub fn pronoun(noun: Noun) -> &'static str {
    match noun.term.class {
        _ if noun.plural => "they",
        Class::Female => "she",
        Class::Male => "he",
        _ => "it",
    }
}

fn asked_subject(noun: Noun) -> &'static str {
    if NAMES.contains(&noun.term.class) || noun.term.class == Class::Occupation { "who" } else { "what" }
}

fn asked_object(noun: Noun) -> &'static str {
    if asked_subject(noun) == "who" { "whom" } else { "what" }
}

fn past(scene: &Scene) -> String {
    let verb = lemma(scene.verb);
    let manner = manner(scene);
    let manner = manner.trim_start();
    let gap = if manner.is_empty() { "" } else { " " };
    if scene.negated { format!("did not {manner}{gap}{}", verb.base) } else { format!("{manner}{gap}{}", verb.past) }
}

fn manner(scene: &Scene) -> String {
    scene.manner.map(|m| format!(" {}", lemma(m).base)).unwrap_or_default()
}

fn adjuncts(scene: &Scene) -> String {
    let parts: Vec<String> = scene.place.map(place).into_iter().chain(scene.time.map(time)).collect();
    parts.join(" ")
}
