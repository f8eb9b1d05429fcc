//! From bytes to a YAML value. Whatever keeps a file from being read is said with its line.

mod number;

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::Value;

use self::number::AnySize;
use super::error::{Problem, SpecErrors};

/// The text of an experiment's file, without a byte order mark.
pub fn text(bytes: &[u8], origin: &str) -> Result<String, SpecErrors> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(without_mark(text).to_owned()),
        Err(error) => {
            let (before, byte) = (&bytes[..error.valid_up_to()], bytes[error.valid_up_to()]);
            let place = place(&String::from_utf8_lossy(before));
            let message = format!("byte `{byte:#04x}` is not UTF-8 at {place}; save the file as UTF-8");
            let problem = Problem { path: String::new(), line: None, message };
            Err(SpecErrors { origin: origin.to_owned(), problems: vec![problem], more: 0, hint: None })
        }
    }
}

/// The text without the byte order mark that some editors put first.
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The value of a text, or why there is none.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    value(text).map_err(|error| {
        // Of these two the parser gives no place, or that of the map around.
        if let Some((before, character)) = forbidden(text) {
            let (character, place) = (character.escape_default(), place(before));
            return format!("not valid YAML: control characters are not allowed: `{character}` at {place}; delete it");
        }
        match second_key(text) {
            Some((key, place)) => {
                format!("not valid YAML: duplicate entry with key {key:?} at {place}; keep one of them")
            }
            None => format!("not valid YAML: {error}"),
        }
    })
}

/// The value of a text, with the parser's error.
pub(super) fn value(text: &str) -> Result<Value, serde_yaml::Error> {
    AnySize.deserialize(serde_yaml::Deserializer::from_str(text))
}

/// Where the text after `before` begins.
fn place(before: &str) -> String {
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line} column {column}")
}

/// The first character that YAML does not allow, and the text before it (YAML 1.2, production 1).
fn forbidden(text: &str) -> Option<(&str, char)> {
    let allowed = |c: char| {
        matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
            && c != '\u{feff}'
    };
    text.char_indices().find(|(_, c)| !allowed(*c)).map(|(at, c)| (&text[..at], c))
}

/// The first key that its map has already, and its place.
fn second_key(text: &str) -> Option<(String, String)> {
    let error = Distinct.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    let key = error.to_string().split(TWICE).nth(1)?.to_owned();
    let location = error.location()?;
    Some((key, format!("line {} column {}", location.line(), location.column())))
}

/// Stands round the key in the error that breaks the walk off; the parser adds the place.
const TWICE: &str = "\u{1}twice\u{1}";

/// Walks a value and breaks off at a key that its map has already.
struct Distinct;

impl<'de> DeserializeSeed<'de> for Distinct {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Distinct {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while map.next_key_seed(NewKey(&mut seen))?.is_some() {
            map.next_value_seed(Self)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i128<E>(self, _: i128) -> Result<(), E> {
        Ok(())
    }

    fn visit_u128<E>(self, _: u128) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Takes a key that was not there before.
struct NewKey<'a>(&'a mut HashSet<String>);

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NewKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<(), E> {
        if self.0.insert(key.to_owned()) { Ok(()) } else { Err(E::custom(format!("{TWICE}{key}{TWICE}"))) }
    }
}
