//! A sequence of events as the bytes of a file, and back.
//!
//! TensorFlow's record format: length `u64`, its checksum, the bytes, their checksum, in little-endian order. A checksum is CRC-32C, masked
//! so that the checksum of data that has checksums inside is not trivial: `((c >> 15) | (c << 17)) + 0xa282ead8`.

use prost::Message;

use crate::event::Event;

const MASK: u32 = 0xa282_ead8;
/// Bytes of a length and of a checksum.
const LENGTH: usize = 8;
const CHECKSUM: usize = 4;

/// The bytes of a file, which begins with the event of the format's version.
pub fn encode(events: &[Event]) -> Vec<u8> {
    let first = Event::version(events.first().map_or(0.0, |event| event.wall_time));
    let mut bytes = Vec::new();
    for event in std::iter::once(&first).chain(events) {
        let data = event.encode_to_vec();
        let length = (data.len() as u64).to_le_bytes();
        bytes.extend(length);
        bytes.extend(masked(&length).to_le_bytes());
        bytes.extend(&data);
        bytes.extend(masked(&data).to_le_bytes());
    }
    bytes
}

/// The events of a file; why it is none, where it is none.
pub fn decode(mut bytes: &[u8]) -> Result<Vec<Event>, String> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let place = format!("event {}", events.len() + 1);
        let mut take = |count: usize| -> Result<&[u8], String> {
            let (taken, rest) = bytes.split_at_checked(count).ok_or_else(|| format!("{place} is cut"))?;
            bytes = rest;
            Ok(taken)
        };
        let length = take(LENGTH)?;
        let checked = |data: &[u8], checksum: &[u8], what: &str| {
            if masked(data).to_le_bytes() == *checksum {
                Ok(())
            } else {
                Err(format!("{place}: wrong checksum of its {what}"))
            }
        };
        checked(length, take(CHECKSUM)?, "length")?;
        let count = length.iter().rev().fold(0_u64, |count, byte| count << 8 | u64::from(*byte));
        let data = take(usize::try_from(count).map_err(|_| format!("{place} is longer than memory"))?)?;
        checked(data, take(CHECKSUM)?, "data")?;
        events.push(Event::decode(data).map_err(|error| format!("{place}: {error}"))?);
    }
    Ok(events)
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Value;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4, and the check value of CRC-32C in the catalogue of parametrised CRCs.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c::crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        // 0xe3069283 turned by 15 bits, and the mask added.
        assert_eq!(masked(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn a_file_is_read_back_and_begins_with_its_version() {
        let events = [
            Event::of(10.5, 1, vec![Value::scalar("train/loss", 0.25), Value::scalar("train/norm", f64::NAN)]),
            Event::of(11.5, 2, vec![Value::text("experiment", "a")]),
        ];
        let bytes = encode(&events);
        let found = decode(&bytes).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].file_version.as_deref(), found[0].wall_time), (Some("brain.Event:2"), 10.5));
        assert_eq!(found[2], events[1]);
        let numbers: Vec<Option<f32>> =
            found[1].summary.iter().flat_map(|summary| &summary.value).map(|value| value.simple_value).collect();
        assert!(numbers[0] == Some(0.25) && numbers[1].is_some_and(f32::is_nan));
    }

    /// The first event at second 0, byte by byte: field 3 (`file_version`) with 13 letters.
    #[test]
    fn the_frame_is_little_endian() {
        let bytes = encode(&[]);
        assert_eq!(bytes[..8], [15, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[12..14], [0x1a, 13]);
        assert_eq!(&bytes[14..27], b"brain.Event:2");
        assert_eq!(bytes.len(), 8 + 4 + 15 + 4);
    }

    #[test]
    fn what_is_cut_or_changed_is_told() {
        let bytes = encode(&[Event::of(1.0, 1, vec![Value::scalar("a", 1.0)])]);
        assert!(decode(&bytes[..bytes.len() - 1]).unwrap_err().contains("is cut"));
        for at in [0, 9, 20, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(decode(&changed).is_err(), "{at}");
        }
    }
}
