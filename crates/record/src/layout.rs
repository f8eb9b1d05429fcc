//! The layout of `record.json`: one line per top-level field, member and evaluation, everything deeper on one line.
//!
//! Fully indented JSON would give every logged number its own line; fully compact JSON makes version control show a whole record
//! as one changed line.

use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;

/// Containers nested deeper than this are written on one line.
const DEEPEST_INDENTED: usize = 2;

/// `value` as JSON text in this layout, with a final newline.
pub(crate) fn to_bytes<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let layout = Layout { depth: 0, empty: true };
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, layout))?;
    bytes.push(b'\n');
    Ok(bytes)
}

struct Layout {
    depth: usize,
    /// Whether the container being written has no member yet: `{}` stays on one line.
    empty: bool,
}

impl Layout {
    fn open<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty && self.depth < DEEPEST_INDENTED {
            self.line(writer)?;
        }
        self.empty = false;
        writer.write_all(bracket)
    }

    fn member<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(b",")?;
        }
        if self.depth <= DEEPEST_INDENTED { self.line(writer) } else { Ok(()) }
    }

    fn line<W: ?Sized + io::Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(b"  "))
    }
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }
    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.member(writer, first)
    }
    fn end_array_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }
    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }
    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.member(writer, first)
    }
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(if self.depth <= DEEPEST_INDENTED { b": " } else { b":" })
    }
    fn end_object_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    #[cfg_attr(miri, ignore = "insta starts a process")]
    fn two_levels_are_indented() {
        let value = json!({"a": {"b": [1, 2, {"c": []}], "d": {}}, "e": [{"f": 1}, {"f": 2}], "g": [], "h": {}});
        let bytes = to_bytes(&value).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&bytes).unwrap(), value);
        insta::assert_snapshot!(String::from_utf8(bytes).unwrap(), @r#"
        {
          "a": {
            "b": [1,2,{"c":[]}],
            "d": {}
          },
          "e": [
            {"f":1},
            {"f":2}
          ],
          "g": [],
          "h": {}
        }
        "#);
    }
}
