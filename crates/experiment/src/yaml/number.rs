//! A YAML value whose numbers may be of any size.
//!
//! The parser's own value refuses whole numbers beyond 64 bits in words of Rust's types, at once and for the whole file. Here they are
//! numbers with a fraction, as YAML's core schema reads them: each field then refuses them by its own bound, with its path and line.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess as _, Visitor,
};
use serde_yaml::{
    Mapping, Value,
    mapping::Entry,
    value::{Tag, TaggedValue},
};

/// Reads a value.
pub(super) struct AnySize;

impl<'de> DeserializeSeed<'de> for AnySize {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnySize {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok((value as f64).into())
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok((value as f64).into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            all.push(item);
        }
        Ok(Value::Sequence(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        let mut map = Mapping::new();
        while let Some(key) = pairs.next_key_seed(Self)? {
            match map.entry(key) {
                Entry::Occupied(entry) => return Err(A::Error::custom(twice(entry.key()))),
                Entry::Vacant(entry) => entry.insert(pairs.next_value_seed(Self)?),
            };
        }
        Ok(Value::Mapping(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        let (tag, content) = data.variant::<String>()?;
        if tag.is_empty() {
            return Err(A::Error::custom("empty YAML tag is not allowed"));
        }
        let value = content.newtype_variant_seed(Self)?;
        Ok(Value::Tagged(Box::new(TaggedValue { tag: Tag::new(tag), value })))
    }
}

/// What the parser's own value says of a key that its map has already.
fn twice(key: &Value) -> String {
    match key {
        Value::Null => "duplicate entry with null key".to_owned(),
        Value::Bool(key) => format!("duplicate entry with key `{key}`"),
        Value::Number(key) => format!("duplicate entry with key {key}"),
        Value::String(key) => format!("duplicate entry with key {key:?}"),
        Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => "duplicate entry in YAML map".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value, String> {
        AnySize.deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| error.to_string())
    }

    #[test]
    fn values_and_errors_are_the_parsers() {
        for text in [
            "a: [1, -2, 0.5, .nan, .inf, true, null, ~, x, 'y', 0x10, 1_0]\nb: {c: {1: d, true: e, [k]: f}}\n",
            "a: !own {b: 1}\nc: !unit\nd: !seq [1]\ne: !str 5\nf: !!str 5\ng: !!int '5'\n",
            "a: &x [1, 2]\nb: *x\n<<: {c: 1}\n",
            "",
            "- |\n  text\n- >\n  folded\n",
            "18446744073709551615",
            "-9223372036854775808",
            "1e400",
            "a: 1\na: 2\n",
            "1: 1\n1: 2\n",
            "~: 1\n~: 2\n",
            "true: 1\ntrue: 2\n",
            "[a]: 1\n[a]: 2\n",
            "a: *nowhere\n",
            "a: &a [*a]\n",
            "a: 1\n---\nb: 2\n",
            "a: [\n",
        ] {
            let wanted = serde_yaml::from_str::<Value>(text).map_err(|error| error.to_string());
            // NaN is unequal to itself.
            assert_eq!(format!("{:?}", read(text)), format!("{wanted:?}"), "{text}");
        }
    }

    #[test]
    fn whole_numbers_of_any_size_are_read() {
        for (text, wanted) in [
            ("18446744073709551616", 18_446_744_073_709_551_616.0),
            ("-9223372036854775809", -9_223_372_036_854_775_809.0),
            ("340282366920938463463374607431768211456", 2_f64.powi(128)),
        ] {
            assert_eq!(read(text).unwrap(), Value::from(wanted), "{text}");
        }
    }
}
