//! Where a value stands in a YAML file, as a path of keys and as a line.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// Into a map.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// A path from the root; the empty path is the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Path(Vec<Part>);

impl Path {
    pub(super) fn key(&self, key: impl Into<String>) -> Self {
        self.with(Part::Key(key.into()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Part::Index(index))
    }

    /// This path and then `keys`.
    pub(super) fn keys<'a>(&self, keys: impl IntoIterator<Item = &'a str>) -> Self {
        keys.into_iter().fold(self.clone(), |path, key| path.key(key))
    }

    pub(super) fn with(&self, part: Part) -> Self {
        let mut parts = self.0.clone();
        parts.push(part);
        Self(parts)
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.0
    }

    pub(super) fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The last key, for messages.
    pub(super) fn last(&self) -> &str {
        let key = |part: &'_ Part| matches!(part, Part::Key(_));
        match self.0.iter().rfind(|part| key(part)) {
            Some(Part::Key(key)) => key,
            _ => "the file",
        }
    }

    /// The line of this value, or of the nearest value around it, counted from 1.
    pub(super) fn line(&self, text: &str) -> Option<usize> {
        (1..=self.0.len()).rev().find_map(|n| line_of(text, &self.0[..n]))
    }
}

/// `variants[1].with.alpha`
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, part) in self.0.iter().enumerate() {
            match part {
                Part::Key(key) if n == 0 => f.write_str(key)?,
                Part::Key(key) => write!(f, ".{key}")?,
                Part::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The line of the key or item at `parts`.
///
/// A `Value` has no positions, but an error of the parser has one: the file is read again along the path, and the read is
/// broken off with an error on arrival.
fn line_of(text: &str, parts: &[Part]) -> Option<usize> {
    let error = Seeker(parts).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    error.to_string().contains(ARRIVED).then(|| error.location())?.map(|location| location.line())
}

const ARRIVED: &str = "\u{1}arrived\u{1}";

/// Reads a value along a path.
struct Seeker<'a>(&'a [Part]);

impl<'de> DeserializeSeed<'de> for Seeker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0.first() {
            None => Err(D::Error::custom(ARRIVED)),
            Some(Part::Key(_)) => deserializer.deserialize_map(self),
            Some(Part::Index(_)) => deserializer.deserialize_seq(self),
        }
    }
}

impl<'de> Visitor<'de> for Seeker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value on the path")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (Some(Part::Key(wanted)), rest) = (self.0.first(), &self.0[1..]) else { return Ok(()) };
        while let Some(found) = map.next_key_seed(Key { wanted, last: rest.is_empty() })? {
            if found {
                return map.next_value_seed(Seeker(rest));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let (Some(Part::Index(wanted)), rest) = (self.0.first(), &self.0[1..]) else { return Ok(()) };
        for _ in 0..*wanted {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        let item = if rest.is_empty() { seq.next_element_seed(Arrive)? } else { seq.next_element_seed(Seeker(rest))? };
        let _: () = item.unwrap_or_default();
        Ok(())
    }
}

/// Compares a key; on the path's last one, arrives.
struct Key<'a> {
    wanted: &'a str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        if self.last && key == self.wanted { Err(E::custom(ARRIVED)) } else { Ok(key == self.wanted) }
    }
}

/// Arrives at whatever stands there.
struct Arrive;

impl<'de> DeserializeSeed<'de> for Arrive {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Every kind of value is refused, which puts its position into the error.
impl Visitor<'_> for Arrive {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ARRIVED)
    }
}
