//! Readers of data: tables, chat templates, tokenizers. Each function takes any bytes and must return: an error is fine, a panic is not.
//!
//! `fuzz/fuzz_targets` feeds them from libFuzzer, `crates/cli/tests/corpus.rs` from `fuzz/corpus`.

use data::{
    causal::chat::{ChatTemplate, Date, Message},
    table::{Format, Header, Layout, ShortRows, Table},
    tokenize::Tokenizer,
};

/// A table: the first byte chooses the format and what the user says of it, the rest is the file.
pub fn table(bytes: &[u8]) {
    let Some((&choice, file)) = bytes.split_first() else { return };
    let mut layout = Layout::new(Format::ALL[usize::from(choice) % 4]);
    if choice & 4 != 0 {
        layout.header = Header::Absent(vec!["text".to_owned(), "label".to_owned()]);
    }
    if choice & 8 != 0 {
        layout.short_rows = ShortRows::Skip;
    }
    if choice & 16 != 0 {
        layout.delimiter = b';';
    }
    if let Ok(table) = Table::read("fuzz", file, &layout) {
        for row in 0..table.rows.len() {
            assert_eq!(table.rows[row].len(), table.columns.len(), "a row has a cell per column");
            let _ = (table.at(row), (!table.columns.is_empty()).then(|| table.text(row, 0)));
        }
    }
}

/// A chat template, rendered with two turns.
pub fn chat_template(bytes: &[u8]) {
    let source = String::from_utf8_lossy(bytes);
    let config = serde_json::json!({"bos_token": "<s>", "eos_token": "</s>", "chat_template": source}).to_string();
    let date = Date { year: 2024, month: 2, day: 29 };
    let Ok(template) = ChatTemplate::from_config(config.as_bytes(), Some(date)) else { return };
    let turn = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    let messages = [turn("user", "Is it \"good\"?"), turn("assistant", "So so.")];
    for prompt in [false, true] {
        let _ = template.render(&messages, prompt);
    }
}

/// A `tokenizer.json`, and a text of every kind of byte.
pub fn tokenizer(bytes: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_bytes(bytes) else { return };
    for text in ["", "a film", "é\u{301}\u{0}\u{1f600} ||", " \n\t"] {
        if let Ok(encoding) = tokenizer.encode(text, Some("b"), 16) {
            assert!(encoding.ids.len() <= 16 && encoding.ids.len() == encoding.types.len());
        }
    }
}
