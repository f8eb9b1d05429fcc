//! Names as PEFT matches them: the one owner of these rules, for the targets of an experiment and for folders that PEFT wrote.
//!
//! | field | rule of PEFT 0.20 | where it stands there |
//! |---|---|---|
//! | `target_modules`, `exclude_modules`, a text | `re.fullmatch(pattern, name)` | `tuners_utils.check_target_module_exists` |
//! | the same, a list | the whole name, or its end after a dot | the same |
//! | `rank_pattern`, `alpha_pattern` | `re.match(rf"(.*\.)?({key})$", name)`, the first key that matches | `utils.other.get_pattern_key` |
//! | `layers_pattern` | `re.match(rf".*?\.{list}\.(\d+)\.", name)`, `[^.]*` where there is none | `tuners_utils.check_target_module_exists` |
//! | `modules_to_save` | `name.endswith(module)` | `utils.other._set_trainable` |
//! | targets that they hold, which are not adapted (since 0.16) | `re.match(rf"(^|.*\.){module}($|\..*)", name)` | `tuners_utils.check_target_module_exists` |
//!
//! `name` is the module's in the model that PEFT wraps, without `base_model.model.`; for a model with a head it begins with the
//! model's prefix (`bert.`), so that `^bert\.encoder` matches and `^encoder` does not.
//!
//! Expressions may look around (`^(?!.*vision)`) and refer back, as Python's. An expression stands in a group of its own here also where
//! PEFT pastes it without one, so that `layers|h` means either list.
//!
//! An expression comes from strangers, so its length, its counted repetitions and the ways of matching that it tries are bounded, far beyond
//! what names of modules need; the engine bounds depth and compiled size.

use std::fmt;

use fancy_regex::{Error, Regex, RegexBuilder, RuntimeError};

use crate::config::fields::first;

/// Longest expression, in bytes.
const LONGEST: usize = 4096;
/// Largest product of an expression's counted repetitions (`{n}`): the engine runs through nested ones without counting its steps.
const REPETITIONS: u64 = 100_000;
/// Most ways of matching one name that are tried.
const TRIES: usize = 100_000;

/// An expression, and how much of a name it must match.
#[derive(Clone, Debug)]
pub struct Pattern {
    written: String,
    regex: Regex,
}

/// An expression that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPattern {
    /// As written, clipped where it is long.
    pub pattern: String,
    /// What is wrong with it: a verb and what follows.
    pub reason: String,
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.pattern, self.reason)
    }
}

impl std::error::Error for BadPattern {}

impl Pattern {
    /// Matches whole names: a target or an exclusion.
    pub fn whole(pattern: &str) -> Result<Self, BadPattern> {
        Self::new(pattern, "^(?:", ")$")
    }

    /// Matches whole names or their ends after a dot: a key of `rank_pattern` or `alpha_pattern`.
    pub fn ending(key: &str) -> Result<Self, BadPattern> {
        Self::new(key, r"^(?:.*\.)?(?:", ")$")
    }

    /// Matches a module and all that it holds: an item of `modules_to_save`.
    pub fn held_by(module: &str) -> Result<Self, BadPattern> {
        Self::new(module, r"^(?:.*\.)?(?:", r")(?:$|\.)")
    }

    /// Matches names in a list of layers, whose index is the last group.
    fn list(pattern: &str) -> Result<Self, BadPattern> {
        Self::new(pattern, r"^.*?\.(?:", r")\.(\d+)\.")
    }

    fn new(pattern: &str, before: &str, after: &str) -> Result<Self, BadPattern> {
        let bad = |reason: String| BadPattern { pattern: first(pattern, SHOWN), reason };
        if pattern.len() > LONGEST {
            return Err(bad(format!("has {} bytes, but an expression may have at most {LONGEST}", pattern.len())));
        }
        let repetitions = repetitions(pattern);
        if repetitions > REPETITIONS {
            return Err(bad(format!(
                "repeats {repetitions} times, its counts `{{n}}` multiplied, but may do so at most {REPETITIONS} times; use `*` or `+`"
            )));
        }
        let compiled = |text: &str| {
            let built = RegexBuilder::new(text).backtrack_limit(TRIES).build();
            built.map_err(|error| bad(format!("is not a valid regular expression: {}", reason(&error))))
        };
        // By itself first: `a)(b` would be valid between the parentheses around it.
        compiled(pattern)?;
        let regex = compiled(&format!("{before}{pattern}{after}"))?;
        Ok(Self { written: first(pattern, SHOWN), regex })
    }

    /// Whether a name matches; an expression that tries too many ways of matching is an error.
    pub fn is_match(&self, name: &str) -> Result<bool, BadPattern> {
        self.regex.is_match(name).map_err(|error| self.gave_up(&error, name))
    }

    fn gave_up(&self, error: &Error, name: &str) -> BadPattern {
        let name = first(name, SHOWN);
        let reason = match error {
            Error::RuntimeError(RuntimeError::BacktrackLimitExceeded | RuntimeError::StackOverflow) => format!(
                "has more than {TRIES} ways to match `{name}`; do not repeat what is a repetition itself, as in `(a+)+`"
            ),
            other => format!("fails on `{name}`: {}", reason(other)),
        };
        BadPattern { pattern: self.written.clone(), reason }
    }
}

/// Characters of an expression or a name that a message shows.
const SHOWN: usize = 200;

/// The product of all counted repetitions of an expression, of `{n,m}` the larger number. Braces that stand for themselves count as well.
fn repetitions(pattern: &str) -> u64 {
    let counts = pattern.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    let largest = counts.filter_map(|(count, _)| {
        let numbers = count.split(',').map(str::trim).filter(|number| !number.is_empty());
        // A number beyond 64 bits is larger than any.
        let read =
            |number: &str| number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().unwrap_or(u64::MAX));
        numbers.map(read).collect::<Option<Vec<u64>>>()?.into_iter().max()
    });
    largest.fold(1, |product, count| product.saturating_mul(count.max(1)))
}

/// The last line of the parser's reason, which says why.
fn reason(error: &Error) -> String {
    let inner = match error {
        Error::CompileError(inner) => match &**inner {
            fancy_regex::CompileError::InnerError(inner) => std::error::Error::source(inner).map(ToString::to_string),
            _ => None,
        },
        _ => None,
    };
    let text = inner.unwrap_or_else(|| error.to_string());
    let line = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
    let mut letters = line.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Lists of layers, in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct LayerLists(Vec<Pattern>);

impl LayerLists {
    /// Lists by expression; any name before a number where there is none.
    pub fn new(patterns: &[String]) -> Result<Self, BadPattern> {
        let any = [r"[^.]*".to_owned()];
        let patterns = if patterns.is_empty() { &any[..] } else { patterns };
        patterns.iter().map(|pattern| Pattern::list(pattern)).collect::<Result<_, _>>().map(Self)
    }

    /// The layer of a name: its index in the first list that it is in.
    pub fn layer(&self, name: &str) -> Result<Option<usize>, BadPattern> {
        for list in &self.0 {
            if let Some(found) = list.regex.captures(name).map_err(|error| list.gave_up(&error, name))? {
                return Ok(found.get(found.len() - 1).and_then(|index| index.as_str().parse().ok()));
            }
        }
        Ok(None)
    }
}

/// Whether a name is the one of a list or ends in it after a dot.
pub fn ends_in(name: &str, ending: &str) -> bool {
    name.strip_suffix(ending).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &str = "roberta.encoder.layer.0.attention.self.query";
    const VISION: &str = "model.visual.blocks.0.q_proj";

    /// Python: `bool(re.fullmatch(..))`, `bool(re.match(rf"(.*\.)?({key})$", ..))`.
    #[test]
    fn expressions_match_as_in_python() {
        let whole = |pattern: &str, name: &str| Pattern::whole(pattern).unwrap().is_match(name).unwrap();
        let ending = |key: &str, name: &str| Pattern::ending(key).unwrap().is_match(name).unwrap();
        for (pattern, name, is_match) in [
            (".*query", QUERY, true),
            ("query", QUERY, false),
            ("query|.*self", QUERY, false),
            (r"^(?!.*visual).*(?:q_proj|query)$", QUERY, true),
            (r"^(?!.*visual).*(?:q_proj|query)$", VISION, false),
            (r".*(?<=self\.)query", QUERY, true),
            (r".*\.(\d+)\..*\1.*", "h.1.attn.1.q", true),
        ] {
            assert_eq!(whole(pattern, name), is_match, "{pattern} {name}");
        }
        for (key, name, is_match) in [
            ("query", QUERY, true),
            ("uery", QUERY, false),
            ("query|value", QUERY, true),
            (r"^roberta.encoder.layer.0.attention.self.query", QUERY, true),
            (r"^encoder.layer.0.attention.self.query", QUERY, false),
            (r"^query", "query", true),
            (r"(?<!key\.)query", QUERY, true),
            (r"layer\.0.*(?<!key)", QUERY, true),
        ] {
            assert_eq!(ending(key, name), is_match, "{key} {name}");
        }
    }

    #[test]
    fn a_module_holds_itself_and_what_is_in_it() {
        let holds = |module: &str, name: &str| Pattern::held_by(module).unwrap().is_match(name).unwrap();
        for (module, name, is_held) in [
            ("pooler", "bert.pooler.dense", true),
            ("pooler", "pooler", true),
            ("layer.1", "bert.encoder.layer.1.output.dense", true),
            ("layer.1", "bert.encoder.layer.11.output.dense", false),
            ("dense", "bert.pooler.dense_2", false),
            ("ooler", "bert.pooler.dense", false),
        ] {
            assert_eq!(holds(module, name), is_held, "{module} {name}");
        }
    }

    #[test]
    fn layers_are_counted_in_the_first_list_that_has_the_name() {
        let layer = |lists: &[&str], name: &str| {
            let lists: Vec<String> = lists.iter().map(|list| (*list).to_owned()).collect();
            LayerLists::new(&lists).unwrap().layer(name).unwrap()
        };
        assert_eq!(layer(&[], QUERY), Some(0));
        // The layer, not the expert inside it.
        assert_eq!(layer(&[], "model.layers.3.experts.7.up"), Some(3));
        assert_eq!(layer(&["experts", "layers"], "model.layers.3.experts.7.up"), Some(7));
        assert_eq!(layer(&["h|layers"], "model.layers.3.up"), Some(3));
        assert_eq!((layer(&["h"], QUERY), layer(&[], "layers.3.up")), (None, None));
    }

    #[test]
    fn ends_are_whole_parts_of_names() {
        for (name, ending, is_end) in
            [("a.query", "query", true), ("query", "query", true), ("a.query", "uery", false), ("a.b", "a", false)]
        {
            assert_eq!(ends_in(name, ending), is_end, "{name} {ending}");
        }
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (pattern, part) in [("(", "parenthesis"), ("a)(b", "a)(b"), ("[z-a]", "range")] {
            let error = Pattern::whole(pattern).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("is not a valid regular expression: "), "{error}");
        }
        // Whether by an automaton or by trying, an expression of these ends: in an answer, or in words.
        let names = [QUERY.to_owned(), "a".repeat(60), "a".repeat(10_000), "a.".repeat(5_000)];
        let ending = |pattern: &str| {
            let whole = Pattern::whole(pattern)?;
            names.iter().try_for_each(|name| whole.is_match(name).map(drop))
        };
        ending("(a+)+$").unwrap();
        ending(&format!("(?:{})", vec!["layer"; 600].join("|"))).unwrap();
        // Exponentially many ways: given up, and not taken for a name that does not match.
        for slow in [r"(?=(a|aa)+$)(?:(a|aa)+)+(?<!a)b", r"(a|a)*\1b", r"(?:(?:a|aa)+(?<!b))+c"] {
            let error = ending(slow).unwrap_err().to_string();
            assert!(error.contains("has more than 100000 ways to match `"), "{error}");
            assert!(error.contains("do not repeat what is a repetition itself") && error.len() < 500, "{error}");
        }
        for (pattern, part) in [
            ("((a{1000}){1000}){1000}".to_owned(), "repeats 1000000000 times"),
            // Nothing is tried in vain here, so nothing but the counts bounds it.
            ("(?:(?:(?=r){1000000000}){1000000000}).*".to_owned(), "repeats 1000000000000000000 times"),
            ("(?=a){3,99999999999999999999999}".to_owned(), "repeats 18446744073709551615 times"),
            ("(?=a){0,200000}".to_owned(), "repeats 200000 times"),
            ("a".repeat(5_000), "has 5000 bytes, but an expression may have at most 4096"),
            ("(".repeat(4_000), "too deeply nested"),
            (format!("{}a{}", "(".repeat(2_000), ")".repeat(2_000)), "too deeply nested"),
            (format!("{}a{}", "(?:(?=".repeat(500), "))".repeat(500)), "too deeply nested"),
            (r"(?:\w{300}){300}".to_owned(), "exceeded limit"),
        ] {
            let error = Pattern::whole(&pattern).map(drop).unwrap_err().to_string();
            assert!(error.to_lowercase().contains(part) && error.len() < 500, "`{error}` lacks `{part}`");
        }
        // What people write is far from any bound.
        for pattern in [
            r"^(?!.*(?:visual|vision_tower|lm_head)).*\.(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)$",
            r"(?:\w+\.){2,12}layers\.\d{1,3}\.(?:self_attn|mlp)\.\w{1,40}",
        ] {
            assert!(
                Pattern::whole(pattern).unwrap().is_match("model.decoder.layers.31.mlp.up_proj").unwrap(),
                "{pattern}"
            );
        }
    }
}
