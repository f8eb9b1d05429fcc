//! Pretraining text by index: one corpus with the pairs of `glue_mini`, and one of stories alone.
//!
//! Every word of the language occurs in both, whether or not train splits hold it out. In the first, outcomes follow praise and blame,
//! pronouns follow names, and a verdict (`yes`, `maybe`, `no`, `partly`) on a task's relation opens most second sentences. The stories
//! are unlabelled: they know of no task.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use crate::language::draw::{Draw, Pool};
use crate::language::edit::plain;
use crate::language::lexicon::{Class, Term, lexicon};
use crate::language::render::{self, Form, article, kind, lemma, wider_kind};
use crate::language::scene::{
    ANIMALS, FOODS, FRAMES, NAMES, Noun, OBJECTS, PEOPLE, PLACES, PLAIN, Quality, Scene, TRANSITIVE, Wish,
};
use crate::suite::{generator, inference};

mod stories;

/// Probability that the second of a pair opens with a verdict.
pub const MARKER_SHARE: f64 = 0.9;

const PLEASED: [&str; 4] = ["everyone smiled", "they were glad", "everyone was pleased", "they grinned"];
const UPSET: [&str; 4] = ["everyone complained", "they were sorry", "everyone was upset", "they frowned"];

/// Pair tasks with the verdicts on their labels in order, and how often they occur.
const PAIRS: [(&str, &[&str], u32); 8] = [
    ("mrpc", &["no", "yes"], 6),
    ("qqp", &["no", "yes"], 4),
    ("stsb", &["no", "partly", "partly", "yes"], 5),
    ("mnli", &["yes", "maybe", "no"], 7),
    ("mnli_mismatched", &["yes", "maybe", "no"], 1),
    ("qnli", &["yes", "no"], 6),
    ("rte", &["yes", "no"], 5),
    ("wnli", &["no", "yes"], 5),
];

/// Words whose context determines them: verdicts, outcomes, pronouns, plain words. Masking prefers them ([`crate::mask`]).
pub fn salient_words() -> BTreeSet<&'static str> {
    let listed = "yes no maybe partly smiled grinned glad pleased complained frowned sorry upset he she it they";
    listed.split(' ').chain(plain_words()).collect()
}

/// Every form of the words that name kinds, plain verbs and judgements.
fn plain_words() -> impl Iterator<Item = &'static str> {
    let plain = [Class::Kind, Class::General, Class::Judgement];
    let groups = plain.into_iter().flat_map(|class| lexicon().groups(class)).flat_map(|g| g.sides.iter().flatten());
    groups.flat_map(|lemma| [lemma.base.as_str(), lemma.marked.as_str(), lemma.past.as_str()])
}

/// What a corpus is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// Sentences, and pairs of `glue_mini`'s tasks with a verdict on their label.
    Pairs,
    /// Stories: unlabelled text that knows of no task.
    Stories,
}

impl Text {
    /// Words that their context determines; masking prefers them ([`crate::mask`]).
    pub fn determined_words(self) -> BTreeSet<&'static str> {
        match self {
            Self::Pairs => salient_words(),
            Self::Stories => stories::determined_words(),
        }
    }

    /// Whether a document can have the word.
    pub fn has(self, word: &str) -> bool {
        match self {
            Self::Pairs => true,
            Self::Stories => STORY_WORDS.contains(word),
        }
    }
}

static STORY_WORDS: LazyLock<BTreeSet<&'static str>> = LazyLock::new(stories::words);

/// An endless pretraining corpus with random access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corpus {
    seed: u64,
    text: Text,
}

impl Corpus {
    /// The corpus of a seed that [`Text::Pairs`] makes.
    pub fn new(seed: u64) -> Self {
        Self::of(Text::Pairs, seed)
    }

    /// The corpus of a seed.
    pub fn of(text: Text, seed: u64) -> Self {
        Self { seed, text }
    }

    /// What the corpus is made of.
    pub fn text(&self) -> Text {
        self.text
    }

    /// The document at `index`: one text, or a pair. A pure function of the seed and the index.
    pub fn document(&self, index: u64) -> (String, Option<String>) {
        let mut draw = Draw::new(self.seed, index, Pool::All);
        if self.text == Text::Stories {
            return stories::document(&mut draw);
        }
        match draw.below(100) {
            0..11 => (sentence(&mut draw), None),
            11..19 => (fact(&mut draw), None),
            19..29 => (outcome(&mut draw), None),
            29..33 => (agreement(&mut draw), None),
            33..37 => (reference(&mut draw), None),
            37..38 => (contrast(&mut draw), None),
            38..50 => restated(&mut draw),
            _ => pair(&mut draw),
        }
    }
}

fn sentence(draw: &mut Draw) -> String {
    let wish = Wish { adjective: 0.25, plural: 0.5, place: 0.15, time: 0.1, manner: 0.2, negated: 0.15 };
    let frames = draw.one_of(&[FRAMES, FRAMES, PLAIN]);
    let scene = draw.scene(frames, wish);
    let form = draw.form(&scene);
    let text = match draw.below(10) {
        0..7 => render::present(&scene, true),
        7..9 => render::clause(&scene, form),
        _ => render::agentless(&Scene { negated: false, ..scene }),
    };
    format!("{text} .")
}

/// What a word is, means, or is opposed to.
fn fact(draw: &mut Draw) -> String {
    match draw.below(20) {
        0..14 => kind_of(draw),
        14..17 => synonym(draw),
        17..19 => antonym(draw),
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
    let pronoun =
        if agent.term.class == Class::Occupation && !agent.plural { "she or he" } else { render::pronoun(agent) };
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
    format!(
        "{} . {} {} {} .",
        render::quality(&quality),
        render::pronoun(noun),
        render::be(noun.plural),
        lemma(antonym).base
    )
}

/// A statement and the same in plain words, without a verdict.
fn restated(draw: &mut Draw) -> (String, Option<String>) {
    let mut scene = draw.scene(PLAIN, Wish { plural: 0.15, place: 0.3, ..Wish::default() });
    if draw.chance(0.4) {
        scene.patient = scene.patient.map(|p| draw.judged(p, Class::Polar));
    }
    let restated = plain(&scene);
    let second =
        if draw.chance(0.2) { render::present(&restated, true) } else { render::clause(&restated, Form::default()) };
    (format!("{} .", render::clause(&scene, Form::default())), Some(format!("{second} .")))
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
