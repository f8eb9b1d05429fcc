//! Whether a table fits a page: the type it is set in, and where it is cut.
//!
//! Measured in characters: the page is that of the class `article` at 10 points, the type Computer Modern. A class with a larger page
//! shows the same table with more room.

use super::{Line, Part};
use crate::table::{Entry, Table};

/// Width of the text, in points.
const WIDTH: f64 = 345.0;

/// Height of a page of text less the space around a caption, in points.
const HEIGHT: f64 = 530.0;

/// Characters on a line of a caption, which is in normal type, and of a note, in `\footnotesize`.
const CAPTION_LINE: f64 = 72.0;
const NOTE_LINE: f64 = 84.0;

/// Sizes of type, the largest first: name, points of a character's width (a digit's; text is narrower), points from line to line, and
/// points between columns on each side.
const SIZES: [Size; 5] = [
    Size { name: "\\normalsize", character: 5.0, line: 12.0, gap: 6.0 },
    Size { name: "\\small", character: 4.6, line: 11.0, gap: 5.0 },
    Size { name: "\\footnotesize", character: 4.25, line: 9.5, gap: 4.0 },
    Size { name: "\\scriptsize", character: 3.98, line: 8.0, gap: 3.0 },
    Size { name: "\\tiny", character: 3.4, line: 6.0, gap: 2.0 },
];

/// Fewest rows of a part, whatever its caption and notes take.
const FEWEST: usize = 8;

struct Size {
    name: &'static str,
    character: f64,
    line: f64,
    gap: f64,
}

/// How a table is set.
pub(super) struct Fit {
    size: usize,
    width: f64,
    /// Lines of a part's body.
    lines: usize,
}

impl Fit {
    pub(super) fn of(table: &Table, caption: &str, body: &[Line]) -> Self {
        let widths = widths(table);
        let width =
            |size: &Size| widths.iter().sum::<usize>() as f64 * size.character + 2.0 * size.gap * widths.len() as f64;
        let size = SIZES.iter().position(|size| width(size) <= WIDTH).unwrap_or(SIZES.len() - 1);
        let lines = |text: &str, of_line: f64| (text.chars().count() as f64 / of_line).ceil();
        let notes: f64 = table.notes.iter().map(|note| 9.5 * lines(note, NOTE_LINE) + 3.0).sum();
        let left = |line: f64| ((HEIGHT - 12.0 * lines(caption, CAPTION_LINE) - notes) / line).max(0.0) as usize;
        // The head and two rules take two lines more; a whole table needs no second look.
        let lines = left(SIZES[size].line).saturating_sub(2).max(FEWEST);
        Self {
            size,
            width: width(&SIZES[size]),
            lines: if height(body) <= lines { height(body).max(1) } else { lines },
        }
    }

    /// The command of the type, and the space between columns; none where the document's own will do.
    pub(super) fn size(&self) -> Option<String> {
        let size = &SIZES[self.size];
        (self.size > 0).then(|| format!("{}\\setlength{{\\tabcolsep}}{{{}pt}}", size.name, size.gap))
    }

    /// Whether the table is wider than the text even in the smallest type.
    pub(super) fn is_wide(&self) -> bool {
        self.width > WIDTH
    }

    /// The lines of every part; one at least. A title stays with the row below it.
    pub(super) fn parts(&self, body: &[Line]) -> Vec<Part> {
        let (mut parts, mut start, mut used) = (Vec::new(), 0, 0);
        for (at, line) in body.iter().enumerate() {
            let own = line.height();
            let with_next = own + usize::from(matches!(line, Line::Rule(_)));
            if used > 0 && used + with_next > self.lines {
                parts.push(start..at);
                (start, used) = (at, 0);
            }
            used += own;
        }
        parts.push(start..body.len());
        parts
    }
}

impl Line {
    /// In lines; a rule alone is counted with the space around it.
    fn height(&self) -> usize {
        match self {
            Self::Rule(Some(_)) => 2,
            Self::Rule(None) | Self::Row(_) => 1,
        }
    }
}

fn height(body: &[Line]) -> usize {
    body.iter().map(Line::height).sum()
}

/// Characters of each column's widest cell.
fn widths(table: &Table) -> Vec<usize> {
    let mut widths: Vec<usize> = table.header.iter().map(|head| head.chars().count()).collect();
    for row in table.blocks.iter().flat_map(|block| &block.rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(shown(cell));
        }
    }
    widths
}

fn shown(cell: &Entry) -> usize {
    match cell {
        Entry::Text(text) => text.chars().count(),
        Entry::Missing => 2,
        Entry::Estimate(found) => {
            let of = |value: f64| format!("{value:.2}").len();
            let remarks: usize = found.remarks.iter().map(|remark| remark.len() + 3).sum();
            of(found.mean) + found.half_width.map_or(0, |half| of(half) + 3) + remarks + usize::from(found.dirty)
        }
    }
}
