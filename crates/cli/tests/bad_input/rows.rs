//! Tables and texts that are broken, or cannot be learned from.

use crate::{base::Base, case::Case, experiments::yaml, place::Place};

/// Opens the data before anything trains.
pub(crate) const RUN: &str = "run e.yaml --workers 1";

/// A table that can be learned from.
pub(crate) const TRAIN: &str = "text,mood\na good film,pos\nthe plot is old,neg\nso good,pos\nnever a film,neg\n";

/// A study of a table of the user's own: `task` has more of its fields, and may replace the files' names.
pub(crate) fn put(place: &Place, task: &str, train: &str) {
    put_file(place, task, "train.csv", train.as_bytes());
}

fn put_file(place: &Place, task: &str, name: &str, train: &[u8]) {
    Base::new().put(place);
    place.write("dev.csv", TRAIN);
    place.write(name, train);
    let own = if task.contains("text:") { "" } else { ", text: text, label: mood" };
    let dev = if task.contains("dev:") { "" } else { ", dev: dev.csv" };
    let task = format!("{{task: {{name: own, train: {name}{dev}{own}{task}}}}}");
    place.write("e.yaml", yaml(&format!("suite: custom\ndata: .\nmodel: ./base\ntasks: [{task}]\ntrain: {SHORT}")));
}

const SHORT: &str = "{steps: 1, batch: 2, max_length: 16}";

/// A study of texts by a Llama, with a chat template or without.
pub(crate) fn put_texts(place: &Place, task: &str, train: &str, template: Option<&str>) {
    let mut base = Base::llama();
    if let Some(template) = template {
        base.tokenizer_config["chat_template"] = template.into();
    }
    base.put(place);
    let end = if task.contains("instructions") { "jsonl" } else { "txt" };
    place.write(&format!("train.{end}"), train);
    place.write(&format!("dev.{end}"), train.to_owned() + train);
    let task = format!("{{task: {{name: own, train: train.{end}, dev: dev.{end}, {task}}}}}");
    let rest = format!("suite: text\ndata: .\nmodel: ./base\ntasks: [{task}]\ntargets: [q_proj]\ntrain: {SHORT}");
    place.write("e.yaml", yaml(&rest));
}

fn table(name: &str, train: impl Into<String>) -> Case {
    let train = train.into();
    Case::new(format!("table: {name}"), RUN, move |place| put(place, "", &train))
}

fn described(name: &str, task: &'static str) -> Case {
    Case::new(format!("task: {name}"), RUN, move |place| put(place, task, TRAIN))
}

fn lines(name: &str, train: impl Into<Vec<u8>>) -> Case {
    let train = train.into();
    Case::new(format!("JSON lines: {name}"), RUN, move |place| put_file(place, "", "train.jsonl", &train))
}

fn parquet(name: &str, train: &'static [u8]) -> Case {
    Case::new(format!("Parquet: {name}"), RUN, move |place| put_file(place, "", "train.parquet", train))
}

fn texts(name: &str, task: &'static str, train: &'static str) -> Case {
    Case::new(format!("texts: {name}"), RUN, move |place| put_texts(place, task, train, None))
}

pub(crate) fn cases() -> Vec<Case> {
    let mut all = vec![
        table("an empty file", ""),
        table("a header alone", "text,mood\n"),
        table("one class", "text,mood\na,pos\nb,pos\n"),
        table("no such column", "text,moods\na,pos\n"),
        table("a column twice", "text,mood,mood\na,pos,neg\n"),
        table("an empty label", "text,mood\na,pos\nb,\n"),
        table("a label that dev lacks none of, and train does", "text,mood\na,pos\nb,sad\n"),
        table("a row too short", "text,mood\na,pos\nb\n"),
        table("a row too long", "text,mood\na,pos\nb,neg,more\n"),
        table("a quote that does not end", "text,mood\n\"a,pos\nb,neg\n"),
        table("a label with a NUL, which dev has not", "text,mood\na,p\0s\nb,neg\n"),
        table(
            "a million columns",
            format!("text,mood{}\na,pos\n", (0..1_000_000).map(|at| format!(",c{at}")).collect::<String>()),
        ),
        lines("no JSON", "text,mood\n"),
        lines("a list", "[1, 2]\n"),
        lines("cut short", "{\"text\": \"a\", \"mood\": \"pos\"}\n{\"text\": \"b\", \"mo"),
        lines("a lone surrogate", "{\"text\": \"\\ud83d\", \"mood\": \"pos\"}\n"),
        lines("a value in the place of text", "{\"text\": {\"a\": 1}, \"mood\": \"pos\"}\n"),
        lines("a text that is null", "{\"text\": null, \"mood\": \"pos\"}\n{\"text\": \"b\", \"mood\": \"neg\"}\n"),
        lines("a label that is null", "{\"text\": \"a\", \"mood\": null}\n{\"text\": \"b\", \"mood\": \"neg\"}\n"),
        lines("a key that a line lacks", "{\"text\": \"a\", \"mood\": \"pos\"}\n{\"text\": \"b\"}\n"),
        lines("text that is not UTF-8", b"{\"text\": \"\xff\", \"mood\": \"pos\"}\n".to_vec()),
        lines("lists in lists", format!("{{\"text\": {}", "[".repeat(100_000))),
        lines("a number beyond all", "{\"text\": \"a\", \"mood\": 1e999}\n"),
        parquet("an empty file", b""),
        parquet("no Parquet", b"text,mood\n"),
        parquet("its magic alone", b"PAR1PAR1"),
        parquet("a footer of 4 gigabytes", b"PAR1\0\0\0\0\xff\xff\xff\xffPAR1"),
        described("no dev", ", dev: null"),
        described("a share of 1", ", dev: null, dev_share: 1.0"),
        described("a share that is not a number", ", dev: null, dev_share: .nan"),
        described("a file that is not there", ", test: nowhere.csv"),
        described("a file that climbs", ", test: ../neighbour.csv"),
        described("a file of an unknown kind", ", test: rows.xlsx"),
        described("two labels alike", ", labels: [pos, pos]"),
        described("labels that the file has not", ", labels: [yes, no]"),
        described("a metric of another kind", ", metrics: [pearson]"),
        described("an unknown metric", ", metrics: [rouge]"),
        described("an unknown kind", ", kind: ranking"),
        described("scores that are words", ", kind: regression"),
        described("a delimiter of two characters", ", delimiter: '::'"),
        described("an unknown field", ", header: true"),
        texts("an empty file", "form: pairs", ""),
        texts("a pair without its mark", "form: pairs", "a film is good\n"),
        texts("an empty prompt", "form: pairs", "||is good\n"),
        texts("an unknown form", "form: poems", "a||b\n"),
        texts("blocks of 2^64 - 1 tokens", "form: blocks, block: 18446744073709551615", "a film is good\n"),
        texts("blocks of 0 tokens", "form: blocks, block: 0", "a film is good\n"),
        texts("10^11 beams", "form: pairs, metrics: [bleu], decoding: {beams: 100000000000}", "a film||is good\n"),
        texts("no beams", "form: pairs, metrics: [bleu], decoding: {beams: 0}", "a film||is good\n"),
        texts(
            "2^64 - 1 new tokens",
            "form: pairs, metrics: [bleu], decoding: {max_new_tokens: 18446744073709551615}",
            "a||is good\n",
        ),
        texts("an answer that is no expression", "form: pairs, metrics: [exact_match], answer: '('", "a||is good\n"),
        texts("an answer without a group", "form: pairs, metrics: [exact_match], answer: 'good'", "a||is good\n"),
        texts("instructions without a completion", "form: instructions", "{\"prompt\": \"a film\"}\n"),
        texts("a conversation without a template", "form: instructions", CHAT),
    ];
    all.push(Case::new("table: text that is not UTF-8", RUN, |place| {
        put_file(place, "", "train.csv", b"text,mood\n\xff\xfe,pos\n");
    }));
    all.push(Case::new("table: a folder", RUN, |place| {
        put(place, ", test: rows.csv", TRAIN);
        place.write("rows.csv/inside", "");
    }));
    all
}

const CHAT: &str =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"is good\"}]}\n";
