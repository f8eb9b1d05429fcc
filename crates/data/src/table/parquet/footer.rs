//! Whether a footer can be what it claims to be, before the decoder believes it.
//!
//! The footer is in Thrift's compact protocol. The decoder counts through every item of a list that it does not know, also of truth values,
//! for which it takes no bytes, so that some tens of bytes keep it busy for seconds, and a kilobyte for minutes. It also reads a field
//! that it knows by the type that it expects, whatever type the file names. So what does not read as one structure from its start to
//! its end, with the types of a Parquet file at its top, is refused here.

/// What is wrong with a footer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It is not one structure of the protocol, or not a Parquet file's.
    Broken,
    /// A list of so many items, and fewer bytes.
    Claims(u64),
}

use Problem::{Broken, Claims};

/// Structures in structures that are followed, as by the decoder.
const DEPTH: usize = 64;

/// Types of the fields of a file's metadata, by their numbers from 1: version, schema, rows, row groups, key-value metadata, creator, column
/// orders, encryption, its key.
const FIELDS: [u8; 9] = [5, 9, 6, 9, 9, 8, 9, 12, 8];

/// What is wrong with the footer of a file; none where a file is too short to have one, or names a longer one than it has, which the decoder
/// says in its own words.
pub(super) fn problem(file: &[u8]) -> Option<Problem> {
    let (body, end) = file.split_at_checked(file.len().checked_sub(8)?)?;
    // An encrypted footer ends in `PARE`.
    let (length, magic) = end.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|_| magic == b"PAR1")?;
    let footer = &body[body.len().checked_sub(length)?..];
    Footer(footer).file().err()
}

/// The bytes that are left.
struct Footer<'a>(&'a [u8]);

impl Footer<'_> {
    fn byte(&mut self) -> Result<u8, Problem> {
        let (first, rest) = self.0.split_first().ok_or(Broken)?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, Problem> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Broken)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), Problem> {
        let bytes = usize::try_from(bytes).map_err(|_| Broken)?;
        self.0 = self.0.get(bytes..).ok_or(Broken)?;
        Ok(())
    }

    /// Refuses more items than there are bytes for; an item takes so many at least.
    fn items(&self, items: u64, least: u64) -> Result<(), Problem> {
        if items.saturating_mul(least) > self.0.len() as u64 { Err(Claims(items)) } else { Ok(()) }
    }

    /// The metadata of a file, with the types that its fields have.
    fn file(&mut self) -> Result<(), Problem> {
        let mut last = 0;
        while let Some((kind, delta)) = self.field()? {
            last = delta.map_or_else(|| self.number().map(|id| id >> 1), |delta| Ok(last + delta))?;
            let expected = last.checked_sub(1).and_then(|at| FIELDS.get(usize::try_from(at).ok()?));
            if expected.is_some_and(|expected| *expected != kind) {
                return Err(Broken);
            }
            self.value(kind, DEPTH)?;
        }
        Ok(())
    }

    fn structure(&mut self, depth: usize) -> Result<(), Problem> {
        while let Some((kind, delta)) = self.field()? {
            if delta.is_none() {
                self.number()?;
            }
            self.value(kind, depth)?;
        }
        Ok(())
    }

    /// The type of the next field, and how far its number is from the last one's where the same byte tells; none at the end of a structure.
    fn field(&mut self) -> Result<Option<(u8, Option<u64>)>, Problem> {
        let head = self.byte()?;
        let delta = u64::from(head >> 4);
        Ok((head & 0x0f != 0).then_some((head & 0x0f, (delta != 0).then_some(delta))))
    }

    /// A value of a type of the protocol. Truth values take no bytes: a field has its own in its type, and in lists the decoder reads none.
    fn value(&mut self, kind: u8, depth: usize) -> Result<(), Problem> {
        let depth = depth.checked_sub(1).ok_or(Broken)?;
        match kind {
            1 | 2 => Ok(()),
            3 => self.skip(1),
            4..=6 => self.number().map(drop),
            7 => self.skip(8),
            8 => {
                let length = self.number()?;
                self.skip(length)
            }
            9 | 10 => {
                let head = self.byte()?;
                let items = if head >> 4 == 15 { self.number()? } else { u64::from(head >> 4) };
                self.items(items, 1)?;
                (0..items).try_for_each(|_| self.value(head & 0x0f, depth))
            }
            11 => {
                let items = self.number()?;
                if items == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                self.items(items, 2)?;
                (0..items).try_for_each(|_| {
                    self.value(kinds >> 4, depth)?;
                    self.value(kinds & 0x0f, depth)
                })
            }
            12 => self.structure(depth),
            13 => self.skip(16),
            _ => Err(Broken),
        }
    }
}
