//! Tables: what each format keeps, and what an error says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/parquet_file.rs"]
mod parquet_file;

use data::table::{Cell, Format, Header, Layout, Quoting, ShortRows, Table};
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

/// The rows of a TSV in which quotes may follow the rules of csv, and the notes.
fn told(text: &str, quoting: Quoting) -> (Vec<Vec<String>>, Vec<String>) {
    let table = Table::read("f.tsv", text.as_bytes(), &Layout { quoting, ..Layout::new(Format::Tsv) }).unwrap();
    (texts(&table), table.notes)
}

#[test]
fn tsv_is_quoted_where_every_quote_follows_the_rules_of_csv() {
    let read = |text: &str| told(text, Quoting::WhereConsistent);
    let note = |fields: usize| {
        format!(
            "f.tsv: fields in quotes, read without them as csv has it: {fields}; `format: tsv` keeps quotes as text"
        )
    };
    // pandas 2.3: DataFrame({"text": ["plain", 'he said "so" twice', "a\tb", "two\nlines"], "y": ..}).to_csv(sep="\t", index=False)
    let pandas = "text\ty\nplain\t0\n\"he said \"\"so\"\" twice\"\t1\n\"a\tb\"\t0\n\"two\nlines\"\t1\n";
    let rows = [["plain", "0"], ["he said \"so\" twice", "1"], ["a\tb", "0"], ["two\nlines", "1"]];
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
    for text in [pandas.to_owned(), pandas.replace('\n', "\r\n").replace("two\r\n", "two\n")] {
        assert_eq!(read(&text), (rows.clone(), vec![note(3)]));
    }
    let one = |text: &str| vec![vec![text.to_owned(), "1".to_owned()]];
    assert_eq!(read("t\ty\n\"a \"\"b\"\"\"\t1\n"), (one("a \"b\""), vec![note(1)]));
    assert_eq!(read("\"t\"\t\"y\"\n\"a\"\t1\n"), (one("a"), vec![note(3)]), "every field but numbers is quoted");
    // Nothing tells quoting from a text in quotes, or a quote breaks the rules.
    for plain in ["\"a\"", "\"a", "a \"b\"", "a\"", "\"a\"\" b\" c", "\"a \"b\"\"", "\"\"", "\"a\" b"] {
        assert_eq!(read(&format!("t\ty\n{plain}\t1\n")), (one(plain), vec![]), "{plain}");
    }
    // Two stray quotes that happen to close each other over two rows: the lines make a table as they are.
    let stray = "t\ty\n\"a \"\"b\"\"\t1\nc\"\t1\n";
    assert_eq!(read(stray), ([one("\"a \"\"b\"\""), one("c\"")].concat(), vec![]));
}

#[test]
fn tsv_keeps_quotes_where_it_is_told_to() {
    let quoted = "t\ty\n\"a \"\"b\"\"\"\t1\n";
    let plain = vec![vec!["\"a \"\"b\"\"\"".to_owned(), "1".to_owned()]];
    assert_eq!(told(quoted, Quoting::Never), (plain.clone(), vec![]));
    let note = "f.tsv: every quote follows the rules of csv, but `tsv` keeps quotes as text; `format: csv` with `delimiter: \"\\t\"` \
                reads quoted fields";
    assert_eq!(told(quoted, Quoting::NeverButNoted), (plain, vec![note.to_owned()]));
}

#[test]
fn what_nobody_wants_may_hold_anything() {
    let wanted = |format| Layout { wanted: Some(vec!["s".to_owned()]), ..Layout::new(format) };
    let text = b"{\"id\": {\"a\": [1]}, \"s\": \"x\"}\n{\"s\": \"y\", \"tokens\": [\"y\"]}\n";
    let table = Table::read("f", text, &wanted(Format::Jsonl)).unwrap();
    assert_eq!(
        (table.columns.as_slice(), texts(&table)),
        (["s".to_owned()].as_slice(), vec![vec!["x".to_owned()], vec!["y".to_owned()]])
    );
    let missing = table.column("ids").unwrap_err().to_string();
    assert_eq!(missing, "f: has no column `ids`; did you mean `id`? the columns are `s`, `id`, `tokens`");
    let nested = parquet_file::nested();
    let table = Table::read("f", &nested, &wanted(Format::Parquet)).unwrap();
    assert_eq!(
        (table.columns.as_slice(), table.others.as_slice()),
        (["s".to_owned()].as_slice(), ["tokens".to_owned()].as_slice())
    );
    assert_eq!(texts(&table), [["one"], ["two"]]);
    refused(
        &Layout { wanted: Some(vec!["tokens".to_owned()]), ..Layout::new(Format::Parquet) },
        &nested,
        "d/f, row 1: column `tokens` holds neither text nor numbers; write flat columns of text, numbers and truth values",
    );
}

#[test]
fn a_million_columns_are_a_table() {
    let names = (0..1_000_000).map(|n| format!("c{n}")).collect::<Vec<_>>();
    let table = format!("{}\n{}\n", names.join(","), vec!["1"; names.len()].join(","));
    let read = Table::read("f", table.as_bytes(), &Layout::new(Format::Csv)).unwrap();
    assert_eq!((read.columns.len(), read.rows.len()), (1_000_000, 1));
    let message = read.column("label").unwrap_err().to_string();
    assert!(message.len() < 400 && message.ends_with("`c23`, `.. (1000000 columns)`"), "{message}");
    // As many lines, each with a key of its own: only what is wanted takes memory.
    let lines: String = (0..200_000).map(|n| format!("{{\"s\": \"x\", \"c{n}\": 1}}\n")).collect();
    let wanted = Layout { wanted: Some(vec!["s".to_owned()]), ..Layout::new(Format::Jsonl) };
    let read = Table::read("f", lines.as_bytes(), &wanted).unwrap();
    assert_eq!((read.columns.len(), read.rows.len()), (1, 200_000));
}

#[test]
fn text_that_is_none_is_refused_with_its_line() {
    refused(
        &Layout::new(Format::Jsonl),
        b"{\"s\": \"x\"}\n{\"s\": \"\\ud800 alone\"}\n",
        "d/f, line 2: unexpected end of hex escape at line 1 column 14; write both halves of a pair such as `\\ud83d\\ude00`, or leave \
         the half out",
    );
    let bytes = parquet(&[("s", Column::Bytes(&[b"one", b"\xed\xa0\x80"]))], Compression::None);
    let error = Table::read("d/f", &bytes, &Layout::new(Format::Parquet)).unwrap_err().to_string();
    let found = "d/f, row 2: Parquet error: Error reading BYTE_ARRAY as String.; copy the file again";
    assert!(error.starts_with(found), "{error}");
}

/// A Parquet file with this footer and nothing else.
fn footer_alone(footer: &[u8]) -> Vec<u8> {
    let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
    [b"PAR1", footer, &length, b"PAR1"].concat()
}

#[test]
fn what_a_parquet_file_claims_beyond_its_bytes_is_refused_at_once() {
    // Thrift's compact protocol: lists of 2^31 - 1 truth values in fields that nobody knows.
    let list = |kind: u8| [&[0x09, 0x28, 0xf0 | kind][..], &[0xff, 0xff, 0xff, 0xff, 0x07]].concat();
    for kind in [1, 2, 3, 12] {
        let file = footer_alone(&[list(kind).repeat(6), vec![0]].concat());
        assert!(file.len() < 64);
        refused(
            &Layout::new(Format::Parquet),
            &file,
            "d/f: its footer claims a list of 2147483647 items, more than it has bytes; copy the file again, or write it uncompressed or \
             with snappy, gzip or zstd",
        );
    }
    // A list of truth values has no bytes for the decoder, so that what follows is the next field and no value.
    let hidden = [&[0x09, 0x28, 0x61][..], &list(1), &[0]].concat();
    refused(
        &Layout::new(Format::Parquet),
        &footer_alone(&hidden),
        "d/f: its footer claims a list of 2147483647 items, more than it has bytes; copy the file again, or write it uncompressed or with snappy, gzip or zstd",
    );
    // A version that is a list: the decoder reads a number there, and its next field in the middle of the list.
    let other_type = [&[0x19, 0x28, 1, 0x09, 6, 0x28, 0xf1][..], &[0xff; 4], &[7, 0]].concat();
    refused(
        &Layout::new(Format::Parquet),
        &footer_alone(&other_type),
        "d/f: its footer is damaged; copy the file again, or write it uncompressed or with snappy, gzip or zstd",
    );
    // A schema of no columns and a row group of 2^59 rows.
    let rows = [&[0x80_u8; 8][..], &[0x10]].concat();
    let schema: &[u8] = &[0x19, 0x1c, 0x48, 1, b'm', 0x15, 0, 0];
    let group = [&[0x19, 0x0c, 0x16, 0x00, 0x16][..], &rows, &[0]].concat();
    let empty = footer_alone(&[&[0x15, 2][..], schema, &[0x16], &rows, &[0x19, 0x1c], &group, &[0]].concat());
    assert!(empty.len() < 64, "{}", empty.len());
    let error = Table::read("d/f", &empty, &Layout::new(Format::Parquet)).unwrap_err().to_string();
    assert!(error.starts_with("d/f: it claims 576460752303423488 rows in "), "{error}");
    // Columns that nobody wants leave rows without columns, of which one is enough.
    let some = parquet(&[("s", Column::Text(&["a", "b", "c"]))], Compression::None);
    let table =
        Table::read("d/f", &some, &Layout { wanted: Some(vec!["t".to_owned()]), ..Layout::new(Format::Parquet) });
    let table = table.unwrap();
    assert_eq!((table.rows.len(), table.others.as_slice()), (1, ["s".to_owned()].as_slice()));
    assert!(table.column("t").unwrap_err().to_string().contains("`s`"));
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
fn long_whole_numbers_stay_apart() {
    let rows: &[&[&str]] = &[&["9007199254740993"], &["9007199254740992"], &["18446744073709551615"], &["-7"]];
    let lines: Vec<String> = rows.iter().map(|row| format!("{{\"id\": {}}}\n", row[0])).collect();
    check(Format::Jsonl, lines.concat().as_bytes(), &["id"], rows, &[1, 2, 3, 4]);
    let file =
        parquet(&[("id", Column::Integer(&[9_007_199_254_740_993, 9_007_199_254_740_992, -7]))], Compression::None);
    check(Format::Parquet, &file, &["id"], &[rows[0], rows[1], rows[3]], &[1, 2, 3]);
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
