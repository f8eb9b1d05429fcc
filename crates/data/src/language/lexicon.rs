//! The words of the language, in classes of synonym groups, read from `lexicon.txt`.
//!
//! A group is the unit of the lexical hold-out: all forms, synonyms and antonyms of a word are on the same side of it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

const SOURCE: &str = include_str!("lexicon.txt");

/// The share of a class's groups that train splits draw from.
pub const SEEN_SHARE: f64 = 0.45;

/// Decides which groups are seen; part of the language's identity.
const HOLD_OUT_SEED: u64 = 0x001e_81c0;

macro_rules! classes {
    ($($name:ident = $section:literal : $inflection:ident),+ $(,)?) => {
        /// A semantic class of words.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Class { $(#[doc = concat!("Section `", $section, "`.")] $name),+ }

        impl Class {
            /// Every class, in the order of the file.
            pub const ALL: &[Class] = &[$(Class::$name),+];

            /// The section of `lexicon.txt` that lists the class.
            pub fn section(self) -> &'static str {
                match self { $(Self::$name => $section),+ }
            }

            fn inflection(self) -> Inflection {
                match self { $(Self::$name => Inflection::$inflection),+ }
            }
        }
    };
}

classes! {
    Female = "female": None,
    Male = "male": None,
    Occupation = "occupation": Noun,
    Bird = "bird": Noun,
    Fish = "fish": Noun,
    Insect = "insect": Noun,
    Mammal = "mammal": Noun,
    Tool = "tool": Noun,
    Vehicle = "vehicle": Noun,
    Garment = "garment": Noun,
    Instrument = "instrument": Noun,
    Container = "container": Noun,
    Furniture = "furniture": Noun,
    Fruit = "fruit": None,
    Vegetable = "vegetable": None,
    Dish = "dish": None,
    Drink = "drink": None,
    Room = "room": None,
    Building = "building": None,
    City = "city": None,
    Weekday = "weekday": None,
    Month = "month": None,
    Social = "social": Verb,
    Handle = "handle": Verb,
    Consume = "consume": Verb,
    Hunt = "hunt": Verb,
    Intransitive = "intransitive": Verb,
    Polar = "polar": None,
    Regard = "regard": Verb,
    Dimension = "dimension": None,
    Colour = "colour": None,
    Material = "material": None,
    Number = "number": None,
    Manner = "manner": None,
    Kind = "kind": Noun,
    General = "general": Verb,
    Judgement = "judgement": None,
}

impl Class {
    /// Closed classes are small sets of everyday words; the hold-out leaves them alone.
    fn is_closed(self) -> bool {
        matches!(self, Self::Weekday | Self::Month | Self::Kind | Self::General | Self::Judgement)
    }
}

#[derive(Clone, Copy)]
enum Inflection {
    None,
    Noun,
    Verb,
}

/// One word with its inflected forms; a form that the class does not have repeats the base.
#[derive(Clone, Debug)]
pub struct Lemma {
    /// Singular noun, plain verb, or the word itself.
    pub base: String,
    /// Plural noun or third person singular.
    pub marked: String,
    /// Past tense, used as the participle as well.
    pub past: String,
}

/// Synonyms, and their antonyms on a second side.
#[derive(Clone, Debug)]
pub struct Group {
    /// One or two sides, each with at least one synonym.
    pub sides: Vec<Vec<Lemma>>,
    /// Whether train splits may use the group.
    pub seen: bool,
}

/// The name of one word: class, group, side of an antonym pair, and synonym within the side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term {
    /// The semantic class.
    pub class: Class,
    /// Index of the group in the class.
    pub group: usize,
    /// 0, or 1 for the antonym.
    pub side: usize,
    /// Index of the synonym.
    pub member: usize,
}

/// All words of the language.
#[derive(Debug)]
pub struct Lexicon {
    groups: Vec<Vec<Group>>,
}

static LEXICON: LazyLock<Lexicon> = LazyLock::new(|| Lexicon::parse(SOURCE));

/// The lexicon of the embedded language.
pub fn lexicon() -> &'static Lexicon {
    &LEXICON
}

impl Lexicon {
    fn parse(source: &str) -> Self {
        let mut groups = vec![Vec::new(); Class::ALL.len()];
        let mut class = None;
        for line in source.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                class = Class::ALL.iter().copied().find(|c| c.section() == section);
                assert!(class.is_some(), "lexicon.txt: section `{section}` has no class");
                continue;
            }
            let Some(class) = class else { unreachable!("lexicon.txt: `{line}` stands before the first section") };
            groups[class as usize].extend(line.split_whitespace().map(|entry| parse_group(class, entry)));
        }
        for (&class, groups) in Class::ALL.iter().zip(&mut groups) {
            mark_seen(class, groups);
        }
        Self { groups }
    }

    /// The groups of a class, most frequent first.
    pub fn groups(&self, class: Class) -> &[Group] {
        &self.groups[class as usize]
    }

    /// The group that holds a term.
    pub fn group(&self, term: Term) -> &Group {
        &self.groups[term.class as usize][term.group]
    }

    /// The word a term names.
    pub fn lemma(&self, term: Term) -> &Lemma {
        &self.group(term).sides[term.side][term.member]
    }

    /// Every form of every word, sorted, with its group's `seen` mark.
    pub fn forms(&self) -> BTreeSet<(&str, bool)> {
        self.groups
            .iter()
            .flatten()
            .flat_map(|g| g.sides.iter().flatten().map(move |lemma| (lemma, g.seen)))
            .flat_map(|(lemma, seen)| [&lemma.base, &lemma.marked, &lemma.past].map(|form| (form.as_str(), seen)))
            .collect()
    }
}

fn parse_group(class: Class, entry: &str) -> Group {
    let lemma = |text: &str| inflect(class.inflection(), text);
    let sides = entry.split('|').map(|side| side.split('=').map(lemma).collect()).collect();
    Group { sides, seen: true }
}

fn inflect(inflection: Inflection, text: &str) -> Lemma {
    let mut forms = text.split('/');
    let base = forms.next().unwrap_or_default().to_owned();
    let (marked, past) = (forms.next(), forms.next());
    let marked = match inflection {
        Inflection::None => base.clone(),
        Inflection::Noun | Inflection::Verb => marked.map_or_else(|| add_s(&base), str::to_owned),
    };
    let past = match inflection {
        Inflection::Verb => past.map_or_else(|| add_ed(&base), str::to_owned),
        Inflection::None | Inflection::Noun => base.clone(),
    };
    Lemma { base, marked, past }
}

/// The stem of a word whose final `y` changes before an ending.
fn changing_y(word: &str) -> Option<&str> {
    let stem = word.strip_suffix('y')?;
    (!stem.ends_with(['a', 'e', 'i', 'o', 'u'])).then_some(stem)
}

fn add_s(word: &str) -> String {
    if let Some(stem) = changing_y(word) {
        format!("{stem}ies")
    } else if word.ends_with(['s', 'x', 'z']) || word.ends_with("ch") || word.ends_with("sh") {
        format!("{word}es")
    } else {
        format!("{word}s")
    }
}

fn add_ed(word: &str) -> String {
    if let Some(stem) = changing_y(word) {
        format!("{stem}ied")
    } else if word.ends_with('e') {
        format!("{word}d")
    } else {
        format!("{word}ed")
    }
}

fn mark_seen(class: Class, groups: &mut [Group]) {
    if class.is_closed() {
        return;
    }
    let mut order: Vec<usize> = (0..groups.len()).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(HOLD_OUT_SEED);
    rng.set_stream(class as u64);
    order.shuffle(&mut rng);
    let n_seen = (SEEN_SHARE * groups.len() as f64).round() as usize;
    for &group in &order[n_seen..] {
        groups[group].seen = false;
    }
}
