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

use std::fmt;

use fancy_regex::Regex;

/// An expression, and how much of a name it must match.
#[derive(Clone, Debug)]
pub struct Pattern {
    written: String,
    regex: Regex,
}

/// An expression that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPattern {
    /// As written.
    pub pattern: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a valid regular expression: {}", self.pattern, self.reason)
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
        let bad = |error: fancy_regex::Error| BadPattern { pattern: pattern.to_owned(), reason: reason(&error) };
        // By itself first: `a)(b` would be valid between the parentheses around it.
        Regex::new(pattern).map_err(bad)?;
        let regex = Regex::new(&format!("{before}{pattern}{after}")).map_err(bad)?;
        Ok(Self { written: pattern.to_owned(), regex })
    }

    /// Whether a name matches; an expression that tries too many ways of matching is an error.
    pub fn is_match(&self, name: &str) -> Result<bool, BadPattern> {
        self.regex.is_match(name).map_err(|error| self.gave_up(&error))
    }

    fn gave_up(&self, error: &fancy_regex::Error) -> BadPattern {
        BadPattern { pattern: self.written.clone(), reason: reason(error) }
    }
}

/// The last line of the parser's reason, which says why.
fn reason(error: &fancy_regex::Error) -> String {
    let inner = match error {
        fancy_regex::Error::CompileError(inner) => match &**inner {
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
            if let Some(found) = list.regex.captures(name).map_err(|error| list.gave_up(&error))? {
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
        // Exponentially many ways: given up, and not taken for a name that does not match.
        let slow = Pattern::whole(r"(?=(a|aa)+$)(?:(a|aa)+)+(?<!a)b").unwrap();
        let error = slow.is_match(&"a".repeat(60)).unwrap_err().to_string();
        assert!(error.contains("backtrack") || error.contains("limit"), "{error}");
    }
}
