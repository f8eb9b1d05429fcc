//! Pretraining text: sentences, short documents and pairs of related sentences, by index.
//!
//! Every word of the language occurs, whether or not train splits hold it out. What the tasks need is only implied: outcomes follow
//! praise and blame, pronouns follow names, and and a verdict (`yes`, `maybe`, `no`, `partly`) opens most
//! second sentences, as in an exchange.

use crate::language::draw::{Draw, Pool};
use crate::language::lexicon::{Class, Term};
use crate::language::render::{self, Form, article, kind, lemma, wider_kind};
use crate::language::scene::{
    ANIMALS, FOODS, FRAMES, NAMES, Noun, OBJECTS, PEOPLE, PLACES, Quality, Scene, TRANSITIVE, Wish,
};
use crate::suite::{generator, inference};

/// Probability that the second of a pair opens with a verdict.
pub const MARKER_SHARE: f64 = 0.9;

const PLEASED: [&str; 4] = ["everyone smiled", "they were glad", "everyone was pleased", "they grinned"];
const UPSET: [&str; 4] = ["everyone complained", "they were sorry", "everyone was upset", "they frowned"];

/// Words that carry what a document is about; masking prefers them ([`crate::mask`]).
pub const SALIENT: [&str; 15] = [
    "yes", "no", "maybe", "partly", "smiled", "grinned", "glad", "pleased", "complained", "frowned", "sorry", "upset", "he", "she", "it",
];

/// Pair tasks with the verdicts on their labels in order, and how often they occur.
const PAIRS: [(&str, &[&str], u32); 8] = [
    ("mrpc", &["maybe", "yes"], 6),
    ("qqp", &["maybe", "yes"], 6),
    ("stsb", &["maybe", "partly", "partly", "yes"], 5),
    ("mnli", &["yes", "maybe", "no"], 9),
    ("mnli_mismatched", &["yes", "maybe", "no"], 2),
    ("qnli", &["yes", "maybe"], 7),
    ("rte", &["yes", "maybe"], 5),
    ("wnli", &["no", "yes"], 6),
];

/// An endless pretraining corpus with random access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corpus {
    seed: u64,
}

impl Corpus {
    /// The corpus of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The document at `index`: one text, or a pair. A pure function of the seed and the index.
    pub fn document(&self, index: u64) -> (String, Option<String>) {
        let mut draw = Draw::new(self.seed, index, Pool::All);
        match draw.below(100) {
            0..7 => (sentence(&mut draw), None),
            7..15 => (fact(&mut draw), None),
            15..26 => (outcome(&mut draw), None),
            26..32 => (agreement(&mut draw), None),
            32..36 => (reference(&mut draw), None),
            36..38 => (contrast(&mut draw), None),
            _ => pair(&mut draw),
        }
    }
}

fn sentence(draw: &mut Draw) -> String {
    let wish = Wish { adjective: 0.35, plural: 0.35, place: 0.35, time: 0.15, manner: 0.3, negated: 0.15 };
    let scene = draw.scene(FRAMES, wish);
    let form = draw.form(&scene);
    let text = match draw.below(10) {
        0..5 => render::present(&scene, true),
        5..9 => render::clause(&scene, form),
        _ => render::agentless(&Scene { negated: false, ..scene }),
    };
    format!("{text} .")
}

/// What a word is, means, or is opposed to.
fn fact(draw: &mut Draw) -> String {
    match draw.below(20) {
        0..9 => kind_of(draw),
        9..14 => synonym(draw),
        14..17 => antonym(draw),
        _ => number(draw),
    }
}

const NOUNS: [&[Class]; 5] = [PEOPLE, ANIMALS, OBJECTS, FOODS, PLACES];

fn kind_of(draw: &mut Draw) -> String {
    let classes = draw.one_of(&NOUNS);
    let term = draw.pick_from(classes);
    let name = |term: Term| {
        let plain = matches!(term.class, Class::Female | Class::Male | Class::City);
        let word = &lemma(term).base;
        if plain { word.clone() } else { format!("the {word}") }
    };
    let kind = if draw.chance(0.3) { wider_kind(term.class) } else { kind(term.class) };
    let has_plural = lemma(term).marked != lemma(term).base;
    match draw.below(3) {
        0 => format!("{} and {} are {} .", name(term), name(draw.sibling(term)), lemma(kind).marked),
        1 if has_plural => format!("{} are {} .", lemma(term).marked, lemma(kind).marked),
        _ => format!("{} is {} {} .", name(term), article(&lemma(kind).base), lemma(kind).base),
    }
}

fn synonym(draw: &mut Draw) -> String {
    loop {
        let class = draw.one_of(Class::ALL);
        let term = draw.pick(class);
        let other = draw.synonym(term);
        if other != term {
            return format!("{} means {} .", lemma(term).base, lemma(other).base);
        }
    }
}

fn antonym(draw: &mut Draw) -> String {
    let class = draw.one_of(&[Class::Dimension, Class::Polar, Class::Dimension, Class::Polar, Class::Regard]);
    let term = draw.pick(class);
    let Some(other) = draw.antonym(term) else { unreachable!("the class `{}` has antonyms", class.section()) };
    format!("{} is the opposite of {} .", lemma(term).base, lemma(other).base)
}

fn number(draw: &mut Draw) -> String {
    let first = draw.pick(Class::Number);
    let second = draw.sibling(first);
    let relation = if first.group > second.group { "more" } else { "fewer" };
    format!("{} is {relation} than {} .", lemma(first).base, lemma(second).base)
}

/// Praise or blame, and what came of it.
fn outcome(draw: &mut Draw) -> String {
    let example = generator("sst2")(draw);
    let outcomes = if example.label > 0.5 { PLEASED } else { UPSET };
    format!("{} {} .", example.first, draw.one_of(&outcomes))
}

/// Descriptions and feelings that agree, joined by `and`, or disagree, joined by `but`.
fn agreement(draw: &mut Draw) -> String {
    let noun = draw.noun(&[OBJECTS, FOODS].concat(), Wish::default());
    let word = draw.pick(Class::Polar);
    let agrees = draw.chance(0.8);
    let side = if agrees { word.side } else { 1 - word.side };
    let conjunction = if agrees { "and" } else { "but" };
    let matching = |draw: &mut Draw, class| loop {
        let term = draw.pick(class);
        if term.side == side {
            break term;
        }
    };
    let opening = format!("{} was {}", render::noun(noun), lemma(word).base);
    if draw.chance(0.6) {
        let other = matching(draw, Class::Polar);
        format!("{opening} {conjunction} {} .", lemma(other).base)
    } else {
        let verb = matching(draw, Class::Regard);
        let name = render::noun(Noun::bare(draw.pick_from(NAMES)));
        format!("{opening} {conjunction} {name} {} it .", lemma(verb).past)
    }
}

/// A participant, taken up by a pronoun in the next sentence.
fn reference(draw: &mut Draw) -> String {
    let wish = Wish { plural: 0.4, place: 0.3, ..Wish::default() };
    let frames = draw.one_of(&[TRANSITIVE, FRAMES]);
    let scene = draw.scene(frames, wish);
    // A name alone with a thing or an animal: no other participant could be meant.
    let agent = if draw.chance(0.6) && !ANIMALS.contains(&scene.agent.term.class) {
        Noun::bare(draw.pick_from(NAMES))
    } else {
        scene.agent
    };
    let pronoun = if agent.term.class == Class::Occupation && !agent.plural { "she or he" } else { render::pronoun(agent) };
    let verb = draw.pick(Class::Intransitive);
    let clause = render::clause(&Scene { agent, ..scene }, Form::default());
    if draw.chance(0.5) {
        format!("{clause} . then {pronoun} {} .", lemma(verb).past)
    } else {
        let be = if matches!(pronoun, "they") { "were" } else { "was" };
        format!("{clause} . {pronoun} {be} {} .", lemma(draw.pick(Class::Dimension)).base)
    }
}

/// `the box was not big . it was small .`
fn contrast(draw: &mut Draw) -> String {
    let noun = draw.noun(&[OBJECTS, ANIMALS].concat(), Wish { plural: 0.3, ..Wish::default() });
    let class = draw.one_of(&[Class::Dimension, Class::Polar]);
    let adjective = draw.pick(class);
    let Some(antonym) = draw.antonym(adjective) else { unreachable!("the class `{}` has antonyms", class.section()) };
    let quality = Quality { noun, adjective, negated: true };
    format!("{} . {} {} {} .", render::quality(&quality), render::pronoun(noun), render::be(noun.plural), lemma(antonym).base)
}

fn pair(draw: &mut Draw) -> (String, Option<String>) {
    let total: u32 = PAIRS.iter().map(|p| p.2).sum();
    let mut left = draw.below(total as usize) as u32;
    let mut chosen = PAIRS[0];
    for pair in PAIRS {
        chosen = pair;
        if left < pair.2 {
            break;
        }
        left -= pair.2;
    }
    let (task, markers, _) = chosen;
    let example = if task == "mnli_mismatched" { inference::mismatched(draw) } else { generator(task)(draw) };
    let grade = if task == "stsb" { (example.label / 1.3).floor() } else { example.label };
    let marker = markers[(grade as usize).min(markers.len() - 1)];
    let second = example.second.unwrap_or_default();
    let second = if draw.chance(MARKER_SHARE) { format!("{marker} , {second}") } else { second };
    (example.first, Some(second))
}
