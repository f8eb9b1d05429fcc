//! A run is another one where the base's files read the same data otherwise.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{path::Path, sync::atomic::AtomicBool};

use burn::tensor::DType;
use experiment::cell::Cell;
use record::RunRecord;
use trainer::sink::Silent;

#[path = "support/study.rs"]
mod study;

use study::{cache, cells, finish, store};

/// A decoder with conversations beside it.
fn base(folder: &Path) -> Cell {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop/tests/fixtures/checkpoints/llama");
    for entry in std::fs::read_dir(fixture).unwrap().map(|entry| entry.unwrap().path()) {
        std::fs::copy(&entry, folder.join(entry.file_name().unwrap())).unwrap();
    }
    let line = r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "so"}]}"#;
    std::fs::write(folder.join("a.jsonl"), line).unwrap();
    std::fs::write(folder.join("b.jsonl"), line.replace("hi", "you")).unwrap();
    let yaml = format!(
        "suite: text\nname: test\nmodel: {0}\ndata: {0}\nseeds: [0]\ntargets: [q_proj]\nranks: [2]\nvariants: [lora]\n\
         train: {{steps: 1, batch: 1, max_length: 40}}\ntasks:\n  - task: {{name: t, form: instructions, train: a.jsonl, dev: b.jsonl}}\n",
        folder.display()
    );
    cells(&yaml, &[]).remove(0)
}

#[test]
fn a_run_is_not_taken_for_done_where_the_chat_template_or_a_named_token_is_another() {
    let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cell = base(folder.path());
    let put = |file: &str, content: &str| std::fs::write(folder.path().join(file), content).unwrap();
    let template = "{% for m in messages %}{{ m.role }}:{{ m.content }}{{ eos_token }}{% endfor %}";
    put("chat_template.jinja", template);
    let cells = std::slice::from_ref(&cell);
    let run = || finish(cells, root.path(), 1).remove(0);
    let refused = || {
        let found = study::run(&cache(DType::F32), cells, root.path(), 1, &AtomicBool::new(false), &Silent);
        let error = found.unwrap_err().to_string();
        assert!(error.contains("read otherwise now, by tokenizer_config.json or chat_template.jinja of"), "{error}");
    };

    let first = run();
    assert!(first.reading_hash.is_some());
    assert_eq!(run(), first, "a finished run is not made again");
    put("chat_template.jinja", &template.replace(':', "|"));
    refused();
    put("chat_template.jinja", template);
    assert_eq!(run(), first);
    put("tokenizer_config.json", r#"{"bos_token": "</s>", "eos_token": "</s>"}"#);
    refused();

    // A record of an earlier build has no such hash and stays what it is.
    let older = RunRecord { reading_hash: None, ..first };
    store(root.path()).write(&older).unwrap();
    assert_eq!(run(), older);
}
