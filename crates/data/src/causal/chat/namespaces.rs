//! Namespaces of a chat template, which may not hold one another.
//!
//! A namespace is the one value of Jinja that changes. One that holds itself has no end: whatever writes it out follows it until the stack is
//! full, which no limit on steps sees. So a template is read before it runs: a name that may stand for a namespace, or for something that
//! has one in it, is not assigned to an attribute of one. It is a check of names, not of values, and errs on the side of refusal; the
//! templates of the hub keep texts, numbers and messages in namespaces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

/// A namespace that is made and nothing else.
static MADE: LazyLock<Regex> = LazyLock::new(|| expression(r"^set\s+(\w+)\s*=\s*namespace\s*\([^()]*\)$"));
/// A name, with what stands around it where that says what it is.
static NAME: LazyLock<Regex> =
    LazyLock::new(|| expression(r"(?P<before>\.\s*)?\b(?P<name>[A-Za-z_]\w*)(?P<after>\s*[.\[=(])?"));

/// The line of the first assignment that may put a namespace into a namespace.
pub(super) fn nested(source: &str) -> Option<usize> {
    let statements = statements(source);
    let names = Names::of(&statements);
    let nests = |statement: &&Statement| {
        let of_attribute = statement.targets().iter().any(|target| target.contains('.'));
        let in_call = statement.code.split_once("namespace").is_some_and(|(_, rest)| names.are_in(rest));
        names.are_in(statement.value()) && of_attribute || in_call
    };
    statements.iter().find(nests).map(|statement| statement.line)
}

/// What stands between `{%` and `%}`, or `{{` and `}}`, without the texts in quotes.
struct Statement {
    line: usize,
    code: String,
}

impl Statement {
    /// What a `set`, a `with` or a `for` gives a value to, attributes included.
    fn targets(&self) -> Vec<&str> {
        let (keyword, rest) = self.code.split_once(char::is_whitespace).unwrap_or((&self.code, ""));
        let targets = match keyword {
            "set" => rest.split_once('=').map_or("", |(targets, _)| targets),
            "for" => rest.split_once(" in ").map_or("", |(targets, _)| targets),
            // `a = 1, b = 2`: the names before signs of equality, among others.
            "with" => rest,
            _ => "",
        };
        targets.split([',', '=', '(', ')', ' ']).map(str::trim).filter(|name| !name.is_empty()).collect()
    }

    /// What they are given.
    fn value(&self) -> &str {
        match self.code.split_once(char::is_whitespace) {
            Some(("set", rest)) => rest.split_once('=').map_or("", |(_, value)| value),
            Some(("for", rest)) => rest.split_once(" in ").map_or("", |(_, value)| value),
            _ => &self.code,
        }
    }

    /// Parameters of a `macro` or a `call`.
    fn parameters(&self) -> Vec<&str> {
        let (Some((keyword, _)), Some((_, list))) = (self.code.split_once([' ', '(']), self.code.split_once('('))
        else {
            return Vec::new();
        };
        let is_definition = ["macro", "call"].contains(&keyword);
        let list = if is_definition { list.split(')').next().unwrap_or_default() } else { "" };
        list.split([',', '=']).map(str::trim).filter(|name| !name.is_empty()).collect()
    }
}

fn statements(source: &str) -> Vec<Statement> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(start) = rest.find('{') {
        line += rest[..start].matches('\n').count();
        let (kind, after) = (rest[start + 1..].chars().next(), start + 2);
        let end = match kind {
            Some('%') => "%}",
            Some('{') => "}}",
            Some('#') => "#}",
            _ => {
                rest = &rest[start + 1..];
                continue;
            }
        };
        let (code, length) = unquoted(&rest[after..], end);
        if end != "#}" {
            let code = code.trim_matches(['-', '+']).trim().replace(['\n', '\r', '\t'], " ");
            found.push(Statement { line, code });
        }
        let next = (after + length).min(rest.len());
        line += rest[start..next].matches('\n').count();
        rest = &rest[next..];
    }
    found
}

/// Code up to `end`, with spaces in the place of texts, and its length in the source with the end. Comments have no texts.
fn unquoted(source: &str, end: &str) -> (String, usize) {
    let (mut code, mut quote, mut escaped) = (String::new(), None, false);
    for (at, letter) in source.char_indices() {
        if quote.is_none() && source[at..].starts_with(end) {
            return (code, at + end.len());
        }
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if letter == '\\' => escaped = true,
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None if (letter == '"' || letter == '\'') && end != "#}" => {
                quote = Some(letter);
                code.push(' ');
            }
            None => code.push(letter),
        }
    }
    (code, source.len())
}

/// Names by which a namespace can be reached.
struct Names {
    /// Of a namespace itself: with an attribute behind it, it is something else.
    namespaces: BTreeSet<String>,
    /// Of what may be one or have one in it.
    others: BTreeSet<String>,
}

impl Names {
    fn of(statements: &[Statement]) -> Self {
        let made = |it: &Statement| Some(MADE.captures(&it.code)?[1].to_owned());
        let mut names = Self { namespaces: statements.iter().filter_map(made).collect(), others: BTreeSet::new() };
        let mut users: BTreeMap<&str, Vec<&Statement>> = BTreeMap::new();
        let mut open = Vec::new();
        for statement in statements.iter().filter(|it| !MADE.is_match(&it.code)) {
            words(statement.value()).for_each(|(name, _)| users.entry(name).or_default().push(statement));
            if names.are_in(statement.value()) {
                open.push(statement);
            }
        }
        let mut parameters = Some(statements.iter().flat_map(Statement::parameters));
        // Each name is taken up once, and with it the statements that use it, so this ends after as many steps as there are words.
        while let Some(statement) = open.pop() {
            let is_call = statement.code.contains('(') && statement.parameters().is_empty();
            let passed = is_call.then(|| parameters.take()).flatten().into_iter().flatten();
            for name in statement.targets().into_iter().chain(passed) {
                if names.others.insert(name.to_owned()) {
                    open.extend(users.remove(name).unwrap_or_default());
                }
            }
        }
        names
    }

    /// Whether code has one of them.
    fn are_in(&self, code: &str) -> bool {
        words(code).any(|(name, of_attribute)| {
            name == "namespace" || self.others.contains(name) || (self.namespaces.contains(name) && !of_attribute)
        })
    }
}

/// The names in code that are no attributes, each with whether an attribute of it is meant.
fn words(code: &str) -> impl Iterator<Item = (&str, bool)> {
    let of_attribute = |after: &str| matches!(after.trim(), "." | "[");
    NAME.captures_iter(code).filter(|word| word.name("before").is_none()).filter_map(move |word| {
        Some((word.name("name")?.as_str(), word.name("after").is_some_and(|after| of_attribute(after.as_str()))))
    })
}

fn expression(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| unreachable!("a pattern of this file: {error}"))
}

#[cfg(test)]
mod tests {
    use super::nested;

    #[test]
    fn a_namespace_in_a_namespace_is_found_by_its_line() {
        for source in [
            "{% set ns = namespace(s='') %}\n{% set ns.s = ns %}",
            "{%- set ns = namespace() -%}\n{%- set ns.s = [1, ns] -%}",
            "{% set ns = namespace() %}{% set x = ns %}\n{% set ns.s = x %}",
            "{% set ns = namespace() %}{% for i in a %}{% if i %}\n{% set ns.s = y %}{% endif %}{% set y = x %}{% set x = ns %}{% endfor %}",
            "{% set ns = namespace() %}{% set d = {'a': ns} %}\n{% set ns.s = d.a %}",
            "{% set a = namespace() %}{% set b = namespace() %}{% for x in [b] %}\n{% set a.s = x %}{% endfor %}",
            "{% set a = namespace() %}{% macro f(x) %}\n{% set a.s = x %}{% endmacro %}{{ f(a) }}",
            "{% set f = namespace %}{% set ns = f() %}\n{% set ns.s = ns %}",
            "{% set a = namespace() %}\n{% set b = namespace(x=a) %}",
        ] {
            assert_eq!(nested(source), Some(2), "{source}");
        }
    }

    #[test]
    fn what_the_templates_of_the_hub_do_is_not() {
        for source in [
            "{% set ns = namespace(found=false) %}{% set ns.found = true %}{{ ns.found }}",
            "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}\
             {%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}\
             {%- if ns.multi_step_tool and message.role == \"user\" %}{%- set ns.multi_step_tool = false %}\
             {%- set ns.last_query_index = index %}{%- endif %}{%- endfor %}",
            "{% set ns = namespace(system_prompt='') %}{% for m in messages %}\
             {% set ns.system_prompt = ns.system_prompt + m['content'] + 'ns' %}{% endfor %}{{ ns['system_prompt'] }}",
            "{# {% set ns.s = ns %} #}{{ '{% set ns = namespace() %}{% set ns.s = ns %}' }}",
            "{% set ns = namespace(s='') %}{% macro f(x) %}{{ x }}{% endmacro %}{% set ns.s = f(ns.s) %}",
        ] {
            assert_eq!(nested(source), None, "{source}");
        }
    }
}
