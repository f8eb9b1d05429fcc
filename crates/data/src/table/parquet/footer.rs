//! Whether a footer can be what it claims to be, before the decoder believes it.
//!
//! The footer is in Thrift's compact protocol. The decoder counts through every item of a list that it does not know, also of one that
//! takes no bytes, so that some tens of bytes keep it busy for seconds, and a kilobyte for minutes.

/// What ends the walk.
enum End {
    /// The footer is over, or is none; the decoder says so in its own words.
    Broken,
    /// A list of so many items, and fewer bytes.
    Claims(u64),
}

/// Structures in structures that are followed, as by the decoder.
const DEPTH: usize = 64;

/// A number of items that some list of the footer claims and has no bytes for.
pub(super) fn claims(file: &[u8]) -> Option<u64> {
    let (body, end) = file.split_at_checked(file.len().checked_sub(8)?)?;
    let length = usize::try_from(u32::from_le_bytes(*end.first_chunk()?)).ok()?;
    let mut footer = Footer(&body[body.len().checked_sub(length)?..]);
    match footer.structure(DEPTH) {
        Err(End::Claims(items)) => Some(items),
        Ok(()) | Err(End::Broken) => None,
    }
}

/// The bytes that are left.
struct Footer<'a>(&'a [u8]);

impl Footer<'_> {
    fn byte(&mut self) -> Result<u8, End> {
        let (first, rest) = self.0.split_first().ok_or(End::Broken)?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, End> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(End::Broken)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), End> {
        let bytes = usize::try_from(bytes).map_err(|_| End::Broken)?;
        self.0 = self.0.get(bytes..).ok_or(End::Broken)?;
        Ok(())
    }

    /// Refuses more items than there are bytes for; an item takes so many at least.
    fn items(&self, items: u64, least: u64) -> Result<(), End> {
        if items.saturating_mul(least) > self.0.len() as u64 { Err(End::Claims(items)) } else { Ok(()) }
    }

    fn structure(&mut self, depth: usize) -> Result<(), End> {
        loop {
            let head = self.byte()?;
            let kind = head & 0x0f;
            if kind == 0 {
                return Ok(());
            }
            if head >> 4 == 0 {
                self.number()?; // of the field
            }
            // A field that is true or false has its value in its type.
            if !matches!(kind, 1 | 2) {
                self.value(kind, depth)?;
            }
        }
    }

    /// A value of a type of the protocol.
    fn value(&mut self, kind: u8, depth: usize) -> Result<(), End> {
        let depth = depth.checked_sub(1).ok_or(End::Broken)?;
        match kind {
            1..=3 => self.skip(1),
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
            _ => Err(End::Broken),
        }
    }
}
