//! Text tasks: what YAML may say, and what becomes of the files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use data::batch::EncodedSet;
use data::causal::chat::ChatFiles;
use data::causal::score::of_texts;
use data::causal::task::{LoadedText, Reading, TextTask, load, load_cut};
use data::holdout::{Holdout, TUNE};
use data::metric::Metric;
use data::source::MemoryFiles;
use data::task::Objective;
use data::tokenize::Tokenizer;
use serde_json::{Value, json};

/// Words apart by spaces, `<eos>`, no frame.
fn tokenizer() -> Tokenizer {
    let words = ["<unk>", "<bos>", "<eos>", "user", "assistant", "hi", "you", "so", "good", "####", "42"];
    let vocab: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, &word)| (word.to_owned(), json!(id))).collect();
    let added = words[..3].iter().enumerate().map(|(id, token)| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true})
    });
    let file = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}});
    Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap()
}

fn task(yaml: &str) -> TextTask {
    serde_yaml::from_str(yaml).unwrap()
}

const PAIRS: &str = "{name: e2e, form: pairs, train: a.txt, dev: b.txt, metrics: [bleu]}";

#[track_caller]
fn check(yaml: &str, expected: &[&str]) {
    assert_eq!(task(yaml).check(), expected, "{yaml}");
}

fn read(yaml: &str, files: &[(&str, &str)], config: Option<&[u8]>, max_len: usize) -> Result<LoadedText, String> {
    let files = files.iter().fold(MemoryFiles::default(), |files, (path, text)| files.with(path, *text));
    load(&task(yaml), &files, &tokenizer(), config, max_len).map_err(|e| e.to_string())
}

fn decoded(rows: &[Vec<u32>]) -> Vec<String> {
    rows.iter().map(|ids| tokenizer().decode(ids, false).unwrap()).collect()
}

fn rows(set: &EncodedSet) -> Vec<String> {
    decoded(&set.rows.iter().map(|row| row.ids.clone()).collect::<Vec<_>>())
}

#[test]
fn what_yaml_may_say() {
    check("{name: a, form: blocks, train: a, dev: b}", &[]);
    check("{name: a, form: blocks, train: a, dev: b, test: c, block: 8, metrics: [perplexity]}", &[]);
    check(PAIRS, &[]);
    let all = "{name: gsm8k, form: instructions, train: a, dev: b, metrics: [exact_match, perplexity], answer: '#### (.+)', \
        decoding: {max_new_tokens: 256}, limit: 100}";
    check(all, &[]);
    let written = serde_yaml::to_string(&task(all)).unwrap();
    assert_eq!(task(&written), task(all));
    assert!(serde_yaml::from_str::<TextTask>("{name: a, form: blocks, train: a, dev: b, text: c}").is_err());
    assert_eq!(task("{name: a, form: blocks, train: a, dev: b}").metrics(), [Metric::Perplexity]);
}

#[test]
fn every_problem_is_named_at_once() {
    check(
        "{name: A, form: pairs, train: a, dev: a, test: a, block: 8, metrics: [accuracy, perplexity, perplexity], answer: '(', \
         decoding: {beams: 0}, limit: 0}",
        &[
            "name: is `A`; it names folders, so use lower-case letters, digits, `_` and `-`",
            "dev: is `a`, the file of `train`; splits must not share texts",
            "test: is `a`, the file of `train`; splits must not share texts",
            "block: only the form `blocks` has them; leave it out",
            "metrics: `accuracy` does not judge texts; use `perplexity`, `bleu`, `exact_match`",
            "metrics: `perplexity` is there twice; name it once",
            "decoding: no metric generates texts; name `bleu` or `exact_match`, or leave it out",
            "limit: no metric generates texts; name `bleu` or `exact_match`, or leave it out",
            "answer: only `exact_match` looks for it; name that metric, or leave it out",
            "answer: `(` is refused: regex parse error:\n    (\n    ^\nerror: unclosed group; write one group round the answer, as in `#### (.+)`",
            "decoding.beams: is `0`, which gives no text; use at least 1",
            "limit: is `0`, which leaves nothing to judge; use at least 1, or leave it out",
        ],
    );
    check(
        "{name: a, form: blocks, train: a, dev: b, block: 1, metrics: [bleu, exact_match]}",
        &[
            "block: is `1`, but a token is predicted from one before it; use at least 2",
            "metrics: `bleu` compares with references, which this form lacks; use the form `pairs`, or leave it out",
            "metrics: `exact_match` compares with references, which this form lacks; use the form `pairs` or `instructions`, or \
             leave it out",
        ],
    );
    check(
        "{name: a, form: instructions, train: a, dev: b, metrics: [bleu]}",
        &["metrics: `bleu` compares with references, which this form lacks; use the form `pairs`, or leave it out"],
    );
    check("{name: a, form: blocks, train: a, dev: b, metrics: []}", &["metrics: is empty; leave it out, or name one"]);
    let error = read("{name: a, form: blocks, train: a, dev: a}", &[], None, 8).unwrap_err();
    assert_eq!(error, "task `a`: 1 problem\n  dev: is `a`, the file of `train`; splits must not share texts");
}

#[test]
fn pairs_are_learnt_line_by_line_and_generated_by_context() {
    let files = [("a.txt", "hi||so"), ("b.txt", "hi you||so good\nhi you||good\nso||42\n"), ("c.txt", "so||42\n")];
    let loaded = read(PAIRS, &files[..2], None, 5).unwrap();
    assert_eq!(rows(&loaded.train), ["hi <bos> so <eos>"]);
    let [(name, dev)] = &loaded.evaluation[..] else { panic!("one split") };
    assert_eq!(name, "dev");
    assert_eq!(rows(&dev.set), ["hi you <bos> so good", "hi you <bos> good <eos>", "so <bos> 42 <eos>"]);
    assert_eq!(decoded(&dev.prompts), ["hi you <bos>", "so <bos>"]);
    assert_eq!(dev.references, [vec!["so good", "good"], vec!["42"]]);
    assert_eq!(loaded.test, None);
    assert_eq!(
        loaded.notes,
        [
            "b.txt: items that fill max_length (5 tokens), longer ones cut on the right: 2 of 3",
            "b.txt: items to generate: 2"
        ]
    );
    let (info, metrics) = (&loaded.info, [Metric::Bleu]);
    assert_eq!((info.objective.clone(), info.objective.n_outputs()), (Objective::Text, 0));
    assert_eq!((info.name.as_str(), info.doc.as_str()), ("e2e", "Continues the contexts of a.txt."));
    assert_eq!((info.metrics.as_slice(), info.splits.as_slice()), (&metrics[..], &["dev".to_owned()][..]));

    let with_test = PAIRS.replace("metrics", "test: c.txt, limit: 1, metrics");
    let more = read(&with_test, &files, None, 5).unwrap();
    let test = more.test.unwrap();
    assert_eq!(
        (decoded(&test.prompts), rows(&test.set)),
        (vec!["so <bos>".to_owned()], vec!["so <bos> 42 <eos>".to_owned()])
    );
    let dev = &more.evaluation[0].1;
    assert_eq!((dev.prompts.len(), dev.references.len(), dev.set.rows.len()), (1, 1, 3), "`limit` spares the loss");

    let silent = read("{name: e2e, form: pairs, train: a.txt, dev: b.txt}", &files, None, 9).unwrap();
    let dev = &silent.evaluation[0].1;
    assert_eq!((dev.set.rows.len(), dev.prompts.len(), dev.references.len()), (3, 0, 0));
    assert_eq!(silent.notes, [] as [&str; 0]);
}

#[test]
fn a_hash_tells_files_apart() {
    let hash = |yaml: &str, dev: &str, max_len| {
        read(yaml, &[("a.txt", "hi||so"), ("b.txt", dev)], None, max_len).unwrap().hash
    };
    let first = hash(PAIRS, "hi||so", 9);
    assert_eq!(first.len(), 64);
    assert_eq!(first, hash(PAIRS, "hi||so", 4), "not the tokens but the texts are named");
    assert_ne!(first, hash(PAIRS, "hi||so\n", 9));
    assert_ne!(first, hash(&PAIRS.replace("e2e", "e2f"), "hi||so", 9));
}

#[test]
fn blocks_fill_the_limit() {
    let text = "hi you so good\n\nhi so you 42";
    let files = [("a", text), ("b", text)];
    let loaded = read("{name: a, form: blocks, train: a, dev: b}", &files, None, 5).unwrap();
    assert_eq!(rows(&loaded.train), ["hi you so good <eos>", "hi so you 42 <eos>"]);
    let seen = "b: items that train has as well: 2 of 2; its metrics count what was seen in training";
    assert_eq!((loaded.notes, loaded.evaluation[0].1.prompts.len()), (vec![seen.to_owned()], 0));
    let loaded = read("{name: a, form: blocks, train: a, dev: b, block: 2}", &files, None, 5).unwrap();
    assert_eq!((rows(&loaded.train).len(), rows(&loaded.evaluation[0].1.set).len()), (5, 5));
    let error = read("{name: a, form: blocks, train: a, dev: b, block: 6}", &files, None, 5).unwrap_err();
    let rule = "is `6`, but the length limit (max_length) is 5";
    assert_eq!(error, format!("task `a`: block: {rule}; use a smaller block or raise max_length"));
}

/// Items are compared as their files have them: what the limit leaves of two may be the same, and so may the tokens of which one learns
/// other ones.
#[test]
fn items_that_the_limit_makes_alike_are_not_the_same() {
    let form = |form: &str| format!("{{name: t, form: {form}, train: a, dev: b, test: c}}");
    let shared = |form: &str, files: [&str; 3], max_len: usize| -> Vec<String> {
        let named: Vec<(&str, &str)> = ["a", "b", "c"].into_iter().zip(files).collect();
        let notes = read(form, &named, None, max_len).unwrap().notes;
        notes.into_iter().filter(|note| note.contains("as well")).collect()
    };
    let note = |split: &str, count: &str| {
        format!("{split}: items that train has as well: {count}; its metrics count what was seen in training")
    };
    let pairs = form("pairs");
    let long = ["hi||so good so good so", "hi||so good so good 42", "hi||so good so good so\nhi||so good so you so"];
    assert_eq!(shared(&pairs, long, 4), [note("c", "1 of 2")]);
    assert_eq!(shared(&pairs, long, 40), [note("c", "1 of 2")]);
    let line = |prompt: &str, completion: &str| json!({"prompt": prompt, "completion": completion}).to_string();
    let texts =
        [line("hi you ", "so good so 42"), line("hi you ", "so good so 42 42"), line("hi ", "you so good so 42")];
    let both = format!("{}\n{}", texts[1], texts[0]);
    assert_eq!(shared(&form("instructions"), [&texts[0], &both, &texts[2]], 4), [note("b", "1 of 2")]);
}

#[test]
fn instructions_need_a_template_for_conversations_alone() {
    let yaml = "{name: a, form: instructions, train: a, dev: b, metrics: [exact_match], answer: '#### (.+)'}";
    let pair = r#"{"prompt": "hi you", "completion": " so #### 42"}"#;
    let chat = r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "so #### 42"}]}"#;
    let config = json!({"eos_token": "<eos>", "chat_template":
        "{% for m in messages %}{{ m.role + ' ' + m.content + ' ' + eos_token + ' ' }}{% endfor %}\
         {% if add_generation_prompt %}assistant {% endif %}"})
    .to_string();
    // A configuration without template is as good as none.
    for config in [None, Some(&b"{}"[..])] {
        let loaded = read(yaml, &[("a", pair), ("b", pair)], config, 9).unwrap();
        let dev = &loaded.evaluation[0].1;
        assert_eq!(rows(&dev.set), ["hi you so #### 42 <eos>"]);
        assert_eq!(
            (decoded(&dev.prompts), &dev.references),
            (vec!["hi you".to_owned()], &vec![vec![" so #### 42".to_owned()]])
        );
    }
    let loaded = read(yaml, &[("a", pair), ("b", chat)], Some(config.as_bytes()), 9).unwrap();
    let dev = &loaded.evaluation[0].1;
    assert_eq!(rows(&dev.set), ["user hi <eos> assistant so #### 42 <eos>"]);
    assert_eq!(decoded(&dev.prompts), ["user hi <eos> assistant"]);
    let error = read(yaml, &[("a", pair), ("b", chat)], None, 9).unwrap_err();
    assert!(error.starts_with("b:1: `messages` need a chat template, and there is none; "), "{error}");
    let error = read(yaml, &[("a", pair), ("b", chat)], Some(b"{}"), 9).unwrap_err();
    assert!(error.starts_with("tokenizer_config.json: chat_template: is absent; "), "{error}");
}

#[test]
fn a_template_that_asks_for_the_day_gets_always_the_same() {
    let config = json!({"eos_token": "<eos>", "chat_template":
        "{{ strftime_now('%d') }}{% for m in messages %} {{ m.content }}{% endfor %}"});
    let chat = r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "so"}]}"#;
    let yaml = "{name: a, form: instructions, train: a, dev: b}";
    let loaded = read(yaml, &[("a", chat), ("b", chat)], Some(config.to_string().as_bytes()), 9).unwrap();
    assert_eq!(rows(&loaded.train), ["<unk> hi so <eos>"], "no word is `26`");
}

#[test]
fn files_and_lines_that_are_wrong() {
    let error = read(PAIRS, &[("a.txt", "hi||so"), ("bb.txt", "hi||so")], None, 9).unwrap_err();
    assert_eq!(error, "task `e2e`: memory has no file `b.txt`; it has 2 others; did you mean `a.txt`?");
    let error = read(PAIRS, &[("a.txt", "hi||so"), ("b.txt", "hi")], None, 9).unwrap_err();
    assert!(error.starts_with("b.txt:1: found 0 `||`"), "{error}");
    let error = read(PAIRS, &[("a.txt", "hi you so||so"), ("b.txt", "hi||so")], None, 4).unwrap_err();
    assert!(error.starts_with("a.txt:1: the item has 6 tokens and learns none before token 4; "), "{error}");
}

/// The task with a part of `a.txt` held out; no other file is there.
fn cut(yaml: &str, text: &str, seed: u64) -> Result<LoadedText, String> {
    let files = MemoryFiles::default().with("a.txt", text);
    let tokenizer = tokenizer();
    let reading = Reading { tokenizer: &tokenizer, chat: ChatFiles::default(), max_len: 9 };
    load_cut(&task(yaml), &files, reading, Holdout { share: 0.25, seed }).map_err(|error| error.to_string())
}

#[test]
fn a_context_is_held_out_with_all_its_completions() {
    // Eight contexts of which every one comes back after all the others.
    let contexts = ["hi", "you", "so", "good", "hi you", "hi so", "you so", "so good"];
    let lines = |completion: &str| contexts.map(|context| format!("{context}||{completion}")).join("\n");
    let text = format!("{}\n{}", lines("42"), lines("good"));
    let whole = read(PAIRS, &[("a.txt", &text), ("b.txt", "hi||so")], None, 9).unwrap();
    let mut drawn = Vec::new();
    for seed in 0..8 {
        let loaded = cut(PAIRS, &text, seed).unwrap();
        assert_eq!((loaded.info.splits.as_slice(), loaded.test.is_none()), (&[TUNE.to_owned()][..], true));
        assert_eq!(loaded.notes[0], "e2e, tune: settings are chosen on 4 of 16 items of a.txt");
        let [(name, tune)] = &loaded.evaluation[..] else { unreachable!("one split") };
        assert_eq!(name, TUNE);
        let (kept, held) = (rows(&loaded.train), rows(&tune.set));
        // A quarter of the contexts, each with both of its lines and as one item to generate.
        assert_eq!((kept.len(), held.len(), tune.prompts.len()), (12, 4, 2));
        assert!(tune.references.iter().all(|references| references == &["42", "good"]), "{:?}", tune.references);
        let context = |row: &String| row.split(" <bos>").next().unwrap().to_owned();
        assert!(kept.iter().all(|row| !held.iter().any(|other| context(other) == context(row))), "{kept:?} {held:?}");
        let in_order = rows(&whole.train).into_iter().filter(|row| kept.contains(row)).collect::<Vec<_>>();
        assert_eq!(kept, in_order, "what stays keeps its order");
        assert_eq!(loaded, cut(PAIRS, &text, seed).unwrap());
        drawn.push((held, loaded.hash));
    }
    drawn.sort();
    drawn.dedup();
    assert!(
        drawn.len() == 8 && drawn.windows(2).any(|pair| pair[0].0 != pair[1].0),
        "each seed cuts its own: {drawn:?}"
    );
}

#[test]
fn instructions_and_documents_are_held_out_whole() {
    let line = |prompt: &str, completion: &str| json!({"prompt": prompt, "completion": completion}).to_string();
    let prompts = ["hi ", "you ", "so ", "good "];
    let text: Vec<String> = ["42", "so"].iter().flat_map(|said| prompts.map(|prompt| line(prompt, said))).collect();
    let yaml = "{name: a, form: instructions, train: a.txt, dev: b.txt, metrics: [exact_match]}";
    let loaded = cut(yaml, &text.join("\n"), 1).unwrap();
    let tune = &loaded.evaluation[0].1;
    assert_eq!((loaded.train.rows.len(), tune.set.rows.len(), tune.prompts.len()), (6, 2, 2));
    assert_eq!(tune.prompts[0], tune.prompts[1], "the two answers to one prompt");

    let blocks = "{name: a, form: blocks, train: a.txt, dev: b.txt, block: 3}";
    let documents = ["hi hi", "you you", "so so", "good good"].join("\n\n");
    let loaded = cut(blocks, &documents, 1).unwrap();
    let (kept, held) = (rows(&loaded.train), rows(&loaded.evaluation[0].1.set));
    assert_eq!((kept.len(), held.len()), (3, 1));
    let mut all = [kept, held].concat();
    all.sort();
    assert_eq!(all, ["good good <eos>", "hi hi <eos>", "so so <eos>", "you you <eos>"]);
}

#[test]
fn a_file_of_one_context_cannot_be_cut() {
    let error = cut(PAIRS, "hi||so\nhi||42", 0).unwrap_err();
    assert!(error.starts_with("task `e2e`: 2 training examples are too few to cut a split from"), "{error}");
    // One document is held out, which fills no block.
    let error = cut("{name: a, form: blocks, train: a.txt, dev: b.txt, block: 5}", "hi\n\nyou", 0).unwrap_err();
    assert!(error.starts_with("a.txt: has 2 tokens, fewer than one block of 5"), "{error}");
}

#[test]
fn scores_are_shares() {
    let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<String>>();
    let metrics = [Metric::Perplexity, Metric::Bleu, Metric::ExactMatch];
    let generations = own(&["a b c d #### 1", "e f g h #### 2"]);
    let references = [own(&["x #### 3", "a b c d #### 1"]), own(&["e f g h #### 3"])];
    let scores = of_texts(&metrics, Some("#### (.+)"), &generations, &references).unwrap();
    assert_eq!(scores.keys().collect::<Vec<_>>(), ["bleu", "exact_match"]);
    assert!(scores["bleu"] > 0.5 && scores["bleu"] < 1.0, "{}", scores["bleu"]);
    assert_eq!(scores["exact_match"].to_bits(), 0.5f64.to_bits());
    let perfect =
        of_texts(&metrics, None, &generations, &generations.iter().map(|g| vec![g.clone()]).collect::<Vec<_>>());
    assert!(perfect.unwrap().values().all(|value| (value - 1.0).abs() < 1e-12));
    let none = of_texts(&metrics, None, &[], &[]).unwrap();
    assert!(none.len() == 2 && none.values().all(|value| value.is_nan()));
    let error = of_texts(&metrics, Some("#### (.+)"), &own(&["a"]), &[own(&["#### 1", "b"])]).unwrap_err().to_string();
    assert_eq!(error, "answer_pattern: reference 1 has no answer: `b`; mend the expression or the reference");
}
