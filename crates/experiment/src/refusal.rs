//! What serde refuses, as a value: its errors are caught where they arise, so no text of a message is read.

use std::fmt::{self, Display};

use serde::{
    Deserializer, de,
    de::{
        DeserializeOwned, Expected, IntoDeserializer, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_yaml::Value;

/// Why a value is not of a type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Refusal {
    /// A key that the type does not have.
    Field { name: String, valid: &'static [&'static str] },
    /// A name that the enumeration does not have.
    Variant { name: String, valid: &'static [&'static str] },
    /// A value of another type, or out of range; both as serde describes them.
    Value { found: String, expected: String },
    /// A key that must be there.
    Missing(&'static str),
    /// A rule of the type's own, in its words.
    Rule(String),
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => f.write_str(rule),
            other => write!(f, "{other:?}"),
        }
    }
}

impl std::error::Error for Refusal {}

impl de::Error for Refusal {
    fn custom<T: Display>(message: T) -> Self {
        Self::Rule(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Value { found: found.to_string(), expected: expected.to_string() }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(name: &str, valid: &'static [&'static str]) -> Self {
        Self::Field { name: name.to_owned(), valid }
    }

    fn unknown_variant(name: &str, valid: &'static [&'static str]) -> Self {
        Self::Variant { name: name.to_owned(), valid }
    }

    fn missing_field(name: &'static str) -> Self {
        Self::Missing(name)
    }
}

/// Why `value` is no `T`; none where it is one.
pub(super) fn refusal<T: DeserializeOwned>(value: &Value) -> Option<Refusal> {
    T::deserialize(Node(value)).err()
}

/// A value as serde describes what it found.
pub(super) fn described(value: &Value) -> String {
    unexpected(value).to_string()
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(whole), _) => Unexpected::Unsigned(whole),
            (None, Some(whole)) => Unexpected::Signed(whole),
            (None, None) => Unexpected::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Sequence(_) => Unexpected::Seq,
        Value::Mapping(_) => Unexpected::Map,
        Value::Tagged(_) => Unexpected::Enum,
    }
}

/// A value that is read with [`Refusal`] as the error.
struct Node<'a>(&'a Value);

impl IntoDeserializer<'_, Refusal> for Node<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(whole), _) => visitor.visit_u64(whole),
                (None, Some(whole)) => visitor.visit_i64(whole),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Sequence(items) => SeqDeserializer::new(items.iter().map(Node)).deserialize_any(visitor),
            Value::Mapping(map) => {
                MapDeserializer::new(map.iter().map(|(key, value)| (Node(key), Node(value)))).deserialize_any(visitor)
            }
            Value::Tagged(tagged) => Node(&tagged.value).deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(name.as_str().into_deserializer()),
            other => Err(de::Error::invalid_type(unexpected(other), &"a name of an enum")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct
        map struct identifier ignored_any
    }
}
