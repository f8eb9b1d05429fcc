//! Surface forms: sentences, passives and questions of scenes.
//!
//! All text is lower-case words separated by single spaces; punctuation is `.`, `,` and `?`, also set off by spaces.

use super::lexicon::{Class, Lemma, Term, lexicon};
use super::scene::{ANIMALS, FOODS, Noun, OBJECTS, PEOPLE, Quality, Scene, Time};

/// Words with a grammatical role, not listed in any class.
pub const FUNCTION_WORDS: &str = ". , ? the a an is are was were did not never by in at on and or but because although after when \
     while that it he she they to of than more fewer which what where place time means opposite very really extremely quite so \
     said found seemed looked remained according reported everyone smiled complained pleased upset glad sorry grinned frowned \
     yes no maybe partly then";

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
    /// `where`.
    Place,
    /// `when`.
    Time,
}

/// The word a term names.
pub fn lemma(term: Term) -> &'static Lemma {
    lexicon().lemma(term)
}

/// `mary`, `the red car`, `the doctors`.
pub fn noun(noun: Noun) -> String {
    let head = if noun.plural { &lemma(noun.term).marked } else { &lemma(noun.term).base };
    if noun.is_name() {
        return head.clone();
    }
    let adjective = noun.adjective.map(|a| format!("{} ", lemma(a).base)).unwrap_or_default();
    format!("the {adjective}{head}")
}

/// `in the kitchen`, `at the library`, `in paris`; for a kind, `in a room`.
pub fn place(term: Term) -> String {
    let word = &lemma(term).base;
    match term.class {
        Class::City => format!("in {word}"),
        Class::Building => format!("at the {word}"),
        Class::Kind if word == "building" => format!("at a {word}"),
        Class::Kind => format!("in a {word}"),
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

/// A question about a scene that names neither place nor time; `longer` chooses the second of two wordings.
pub fn question(scene: &Scene, asked: Asked, longer: bool) -> String {
    let object = scene.patient.map(|p| format!(" {}", noun(p))).unwrap_or_default();
    let opening = match (asked, longer) {
        (Asked::Place, false) => "where",
        (Asked::Place, true) => "in which place",
        (Asked::Time, false) => "when",
        (Asked::Time, true) => "at what time",
    };
    format!("{opening} did {} {}{object} ?", noun(scene.agent), lemma(scene.verb).base)
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
