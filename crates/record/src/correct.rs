//! Which examples of a split a readout got right.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::hash::hex;

/// One bit per example, in the order of the split's file: packed into bytes, the first example in the highest bit, and written as
/// hexadecimal digits. 5,000 examples take 1,250 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Correct(Vec<u8>);

impl Correct {
    /// Packs what was right.
    pub fn pack(right: &[bool]) -> Self {
        let byte = |bits: &[bool]| bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at));
        Self(right.chunks(8).map(byte).collect())
    }

    /// What was right, for the number of examples that the evaluation states; none where that is another number.
    pub fn of(&self, examples: usize) -> Option<Vec<bool>> {
        let right = |at: usize| self.0[at / 8] >> (7 - at % 8) & 1 == 1;
        (self.0.len() == examples.div_ceil(8)).then(|| (0..examples).map(right).collect())
    }
}

impl Serialize for Correct {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Correct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let pair = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
        bytes
            .map(Self)
            .ok_or_else(|| D::Error::custom("`correct` must be pairs of hexadecimal digits, one bit per example"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_example_is_the_highest_bit() {
        let right = Correct::pack(&[true, false, false, true, false, false, false, false, true]);
        assert_eq!(serde_json::to_string(&right).unwrap(), r#""9080""#);
        assert_eq!(right.of(10).map(|bits| bits[8..].to_vec()), Some(vec![true, false]));
        assert_eq!((right.of(8), right.of(17)), (None, None));
    }

    #[test]
    fn what_is_no_hexadecimal_is_refused() {
        for wrong in [r#""9""#, r#""zz""#, r#""é0""#, "3"] {
            assert!(serde_json::from_str::<Correct>(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn bits_survive_json(bits in prop::collection::vec(any::<bool>(), 0..70)) {
            let text = serde_json::to_string(&Correct::pack(&bits)).unwrap();
            let read: Correct = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read.of(bits.len()), Some(bits));
        }
    }
}
