//! Tables: what each format keeps, and what an error says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/parquet_file.rs"]
mod parquet_file;

use data::table::{Cell, Format, Header, Layout, ShortRows, Table};
use parquet_file::{Column, Compression, bytes as parquet};

const BOM: &str = "\u{feff}";

fn texts(table: &Table<'_>) -> Vec<Vec<String>> {
    let cell = |cell: &Cell<'_>| cell.text().map_or("<null>".to_owned(), std::borrow::Cow::into_owned);
    table.rows.iter().map(|row| row.iter().map(cell).collect()).collect()
}

#[track_caller]
fn check(format: Format, bytes: &[u8], columns: &[&str], rows: &[&[&str]], lines: &[usize]) {
    let table = Table::read("f", bytes, &Layout::new(format)).unwrap();
    assert_eq!(table.columns, columns);
    assert_eq!(texts(&table), rows);
    assert_eq!(table.lines, lines);
}

#[track_caller]
fn refused(layout: &Layout, bytes: &[u8], message: &str) {
    assert_eq!(Table::read("d/f", bytes, layout).unwrap_err().to_string(), message);
}

#[test]
fn tsv_has_no_quoting_and_takes_marks_and_line_ends() {
    let rows: &[&[&str]] = &[&["\" lone", "0"], &["\"a\"", ""]];
    for text in [
        "s\tlabel\n\" lone\t0\n\"a\"\t\n",
        "s\tlabel\r\n\" lone\t0\r\n\"a\"\t\r\n\r\n",
        "s\tlabel\n\" lone\t0\n\"a\"\t",
    ] {
        check(Format::Tsv, text.as_bytes(), &["s", "label"], rows, &[2, 3]);
        check(Format::Tsv, format!("{BOM}{text}").as_bytes(), &["s", "label"], rows, &[2, 3]);
    }
}

#[test]
fn a_header_may_be_absent_and_short_rows_skipped() {
    let header = Header::Absent(vec!["a".to_owned(), "b".to_owned()]);
    let layout = Layout { header, short_rows: ShortRows::Skip, ..Layout::new(Format::Tsv) };
    let table = Table::read("f", b"1\t2\nbroken\n\n3\t4\n", &layout).unwrap();
    assert_eq!(texts(&table), [["1", "2"], ["3", "4"]]);
    assert_eq!((table.lines, table.skipped), (vec![1, 4], vec![2, 3]));
}

#[test]
fn csv_quotes_delimiters_line_ends_and_quotes() {
    let text = "s,label\n\"a, \"\"b\"\"\nc\",0\n\nplain \" quote,1";
    let rows: &[&[&str]] = &[&["a, \"b\"\nc", "0"], &["plain \" quote", "1"]];
    check(Format::Csv, text.as_bytes(), &["s", "label"], rows, &[2, 5]);
    let crlf = format!("{BOM}{}", "s,label\r\n\"a\",0\r\n");
    check(Format::Csv, crlf.as_bytes(), &["s", "label"], &[&["a", "0"]], &[2]);
    let semicolons = Layout { delimiter: b';', ..Layout::new(Format::Csv) };
    assert_eq!(texts(&Table::read("f", b"a;b\n1,5;2\n", &semicolons).unwrap()), [["1,5", "2"]]);
}

#[test]
fn json_lines_may_lack_keys() {
    let text = "{\"s\": \"a\\tb\", \"label\": 1}\n\n{\"s\": null, \"label\": 0.5, \"more\": true}\r\n";
    let rows: &[&[&str]] = &[&["1", "a\tb", "<null>"], &["0.5", "<null>", "true"]];
    check(Format::Jsonl, text.as_bytes(), &["label", "s", "more"], rows, &[1, 3]);
}

#[test]
fn parquet_takes_every_compression_of_the_build() {
    let columns = [
        ("s", Column::Text(&["a\n\"", "b"])),
        ("score", Column::Float(&[3.8, -1.0])),
        ("label", Column::Integer(&[1, -1])),
        ("maybe", Column::Optional(&[None, Some("x")])),
    ];
    let rows: &[&[&str]] = &[&["a\n\"", "3.8", "1", "<null>"], &["b", "-1", "-1", "x"]];
    for compression in Compression::ALL {
        let names = ["s", "score", "label", "maybe"];
        check(Format::Parquet, &parquet(&columns, compression), &names, rows, &[1, 2]);
    }
}

#[test]
fn a_damaged_parquet_file_is_an_error_and_no_panic() {
    let columns = [("s", Column::Text(&["one", "two"])), ("label", Column::Integer(&[0, 1]))];
    let whole = parquet(&columns, Compression::Snappy);
    for cut in 0..whole.len() {
        assert!(Table::read("f", &whole[..cut], &Layout::new(Format::Parquet)).is_err(), "{cut} bytes");
    }
    // A flipped bit may go unseen; it must not end the program.
    for at in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        drop(Table::read("f", &flipped, &Layout::new(Format::Parquet)));
    }
    let text = Table::read("d/f.parquet", b"PAR", &Layout::new(Format::Parquet)).unwrap_err().to_string();
    assert!(text.starts_with("d/f.parquet: ") && text.contains("copy the file again"), "{text}");
}

#[test]
fn errors_name_place_value_rule_and_way_out() {
    let (tsv, csv) = (Layout::new(Format::Tsv), Layout::new(Format::Csv));
    let (jsonl, parquet_layout) = (Layout::new(Format::Jsonl), Layout::new(Format::Parquet));
    refused(
        &tsv,
        b"a\tb\n1\t2\n1\t2\t3\n",
        "d/f, line 3: has 3 cells, but the table has 2 columns (`a, b`); text must hold no tabs and no line ends; a quoted table \
         is `csv`",
    );
    refused(
        &csv,
        b"a,b\n\"1\n\",2\n1\n",
        "d/f, line 4: has 1 cell, but the table has 2 columns (`a, b`); put a field that holds a delimiter or a line end in \
         quotes; a table without quoting is `tsv`",
    );
    let not_utf8 = "is `0xff`, which is not UTF-8; convert the file with `iconv -t UTF-8`";
    refused(&tsv, b"a\tb\n1\tx\xffy\n", &format!("d/f, line 2, byte 4: {not_utf8}"));
    refused(&csv, b"a,b\n1,x\xffy\n", &format!("d/f, line 2, byte 2: {not_utf8}"));
    refused(&jsonl, b"{}\n\xff\n", &format!("d/f, line 2, byte 1: {not_utf8}"));
    for layout in [&tsv, &csv, &jsonl, &parquet_layout] {
        for bytes in [b"".as_slice(), b"\xef\xbb\xbf", b"\r\n\n"] {
            refused(layout, bytes, "d/f: has no rows; a split needs at least one, so copy the file again");
        }
    }
    refused(&tsv, b"a\tb\n", "d/f: has no rows; a split needs at least one, so copy the file again");
    refused(&tsv, b"a\ta\n1\t2\n", "d/f: has two columns `a`; rename one of them");
    refused(
        &csv,
        b"a,b\n1,2\n3,\"open\n5,6\n",
        "d/f, line 3: a quote opens a field and is never closed; double every quote inside a quoted field, or say `format: tsv` \
         for text without quoting",
    );
    refused(
        &jsonl,
        b"{\"a\": 1}\n[1]\n",
        "d/f, line 2: invalid type: sequence, expected a map at line 1 column 0; write one JSON object per line, such as \
         {\"sentence\": \"..\"}",
    );
    refused(&jsonl, b"{\"a\": [1]}\n", "d/f, line 1: `a` holds a list or an object; use text, numbers or null");
    let table = Table::read("d/f", b"sentence\tlabel\nx\t1\n", &tsv).unwrap();
    assert_eq!(
        table.column("sentense").unwrap_err().to_string(),
        "d/f: has no column `sentense`; did you mean `sentence`? the columns are `sentence`, `label`"
    );
    let table = Table::read("d/f", b"{\"s\": null}\n", &jsonl).unwrap();
    assert_eq!(
        table.text(0, 0).unwrap_err().to_string(),
        "d/f, line 1: column `s` has no value; fill it, or leave the row out"
    );
}

#[test]
fn a_format_is_known_by_its_extension() {
    for format in Format::ALL {
        assert_eq!(Format::of(&format!("a.b/c.{format}")), Some(format));
    }
    assert_eq!(Format::of("TRAIN.CSV"), Some(Format::Csv));
    assert_eq!(Format::of("train.txt"), None);
    assert_eq!(Format::of("train"), None);
}
