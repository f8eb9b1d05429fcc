//! Tokenizers of the families, against their forms and against the library's own framing and truncation.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use data::batch::{Batch, Encoded, EncodedSet};
use data::corpus::Corpus;
use data::task::Example;
use data::tokenize::{Encoding, Tokenizer, build_tokenizer_json};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::utils::truncation::TruncationParams;

/// A tokenizer of whole words: `special`, then `a` to `j`, with a post-processor.
fn words(special: &[&str], post_processor: &Value) -> Value {
    let letters = "abcdefghij".chars().map(String::from);
    let all = special.iter().map(|&token| token.to_owned()).chain(letters);
    let vocab: serde_json::Map<String, Value> = all.enumerate().map(|(id, token)| (token, json!(id))).collect();
    let added = special.iter().enumerate().map(|(id, token)| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true})
    });
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": post_processor, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": special[0]}})
}

fn bert() -> Value {
    let part = |name: &str, id: u32| json!({"SpecialToken": {"id": name, "type_id": id}});
    let text = |name: &str, id: u32| json!({"Sequence": {"id": name, "type_id": id}});
    let token = |name: &str, id: u32| json!({"id": name, "ids": [id], "tokens": [name]});
    words(
        &["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"],
        &json!({"type": "TemplateProcessing",
            "single": [part("[CLS]", 0), text("A", 0), part("[SEP]", 0)],
            "pair": [part("[CLS]", 0), text("A", 0), part("[SEP]", 0), text("B", 1), part("[SEP]", 1)],
            "special_tokens": {"[CLS]": token("[CLS]", 2), "[SEP]": token("[SEP]", 3)}}),
    )
}

fn llama() -> Value {
    let bos = |id: u32| json!({"SpecialToken": {"id": "<s>", "type_id": id}});
    let text = |name: &str, id: u32| json!({"Sequence": {"id": name, "type_id": id}});
    words(
        &["<unk>", "<s>", "</s>"],
        &json!({"type": "TemplateProcessing", "single": [bos(0), text("A", 0)],
            "pair": [bos(0), text("A", 0), bos(1), text("B", 1)],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}),
    )
}

fn gpt2(post_processor: &Value) -> Value {
    words(&["<|endoftext|>"], post_processor)
}

fn read(file: &Value) -> Tokenizer {
    Tokenizer::from_bytes(file.to_string().as_bytes()).expect("the file is valid")
}

#[track_caller]
fn check(file: &Value, first: &str, second: Option<&str>, max_len: usize, tokens: &str, types: &[u32]) {
    let tokenizer = read(file);
    let encoding = tokenizer.encode(first, second, max_len).expect("there is room");
    let text: Vec<String> = encoding.ids.iter().map(|&id| tokenizer.token(id).expect("ids are tokens")).collect();
    assert_eq!((text.join(" ").as_str(), encoding.types.as_slice()), (tokens, types));
}

#[test]
fn every_family_keeps_its_form() {
    check(&bert(), "a b", None, 9, "[CLS] a b [SEP]", &[0, 0, 0, 0]);
    check(&bert(), "a b", Some("c"), 9, "[CLS] a b [SEP] c [SEP]", &[0, 0, 0, 0, 1, 1]);
    check(&bert(), "a b c d", Some("e f g"), 8, "[CLS] a b c [SEP] e f [SEP]", &[0, 0, 0, 0, 0, 1, 1, 1]);
    check(&llama(), "a b", None, 2, "<s> a", &[0, 0]);
    check(&llama(), "a b", Some("c"), 9, "<s> a b <s> c", &[0, 0, 0, 1, 1]);
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    for post_processor in [Value::Null, byte_level] {
        check(&gpt2(&post_processor), "a b c", None, 2, "a b", &[0, 0]);
        check(&gpt2(&post_processor), "a b", Some("c d"), 3, "a b c", &[0, 0, 1]);
    }
}

#[test]
fn what_the_frame_leaves_no_room_for_is_refused() {
    let error = |file: &Value, max_len| read(file).encode("a", Some("b"), max_len).unwrap_err().to_string();
    assert_eq!(error(&bert(), 3), "max_length: is `3`, but the special tokens alone take 3; use at least 4");
    assert_eq!(
        error(&gpt2(&Value::Null), 0),
        "max_length: is `0`, but the special tokens alone take 0; use at least 1"
    );
}

#[test]
fn special_tokens_are_found_by_name_or_named() {
    let bert = read(&bert());
    assert_eq!((bert.start_id().unwrap(), bert.pad_id().unwrap(), bert.end_id().unwrap()), (2, 1, 3));
    assert_eq!((bert.unknown_id().unwrap(), bert.mask_id().unwrap()), (0, 4));
    assert_eq!(bert.special_ids(), [0, 1, 2, 3, 4]);
    let llama = read(&llama());
    assert_eq!((llama.start_id().unwrap(), llama.pad_id().unwrap(), llama.end_id().unwrap()), (1, 2, 2));
    let gpt2 = read(&gpt2(&Value::Null));
    assert_eq!((gpt2.start_id().unwrap(), gpt2.pad_id().unwrap(), gpt2.end_id().unwrap()), (0, 0, 0));
    let config = br#"{"eos_token": {"content": "j"}, "pad_token": null, "bos_token": "a"}"#;
    let named = gpt2.clone().with_config(config).unwrap();
    assert_eq!((named.start_id().unwrap(), named.pad_id().unwrap(), named.end_id().unwrap()), (1, 10, 10));
    let bare = read(&words(&["?"], &Value::Null));
    assert_eq!(
        bare.pad_id().unwrap_err().to_string(),
        "tokenizer: the vocabulary has no token `<pad>` or `[PAD]` or `<|endoftext|>` or `<|end_of_text|>` or `<eos>` or `</s>` or \
         `[SEP]` to pad with; add one to `added_tokens` of tokenizer.json, or name a token of the vocabulary as `pad_token` in \
         tokenizer_config.json"
    );
    let error = gpt2.with_config(b"[").unwrap_err().to_string();
    assert!(error.starts_with("tokenizer_config.json: not JSON: "), "{error}");
}

#[test]
fn decoding_undoes_encoding() {
    let tokenizer = read(&bert());
    let ids = tokenizer.encode_plain("a b", true).unwrap();
    assert_eq!(ids, [2, 5, 6, 3]);
    assert_eq!(tokenizer.encode_plain("a b", false).unwrap(), [5, 6]);
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "a b");
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "[CLS] a b [SEP]");
    assert_eq!(tokenizer.decode(&[5, 999], false).unwrap(), "a");
}

/// Token by token, framed by hand: the form that published results of the embedded tokenizer rest on.
fn by_hand(tokenizer: &Tokenizer, first: &str, second: Option<&str>, max_len: usize) -> Vec<u32> {
    let mut a = tokenizer.encode_plain(first, false).unwrap();
    let mut b = second.map(|text| tokenizer.encode_plain(text, false).unwrap());
    let special = if b.is_some() { 4 } else { 2 };
    let mut none = Vec::new();
    while a.len() + b.as_ref().map_or(0, Vec::len) + special > max_len {
        let second = b.as_mut().unwrap_or(&mut none);
        (if a.len() > second.len() { &mut a } else { second }).pop();
    }
    let frame = |text: Vec<u32>, opening: u32| [vec![opening], text, vec![2]].concat();
    frame(a, 0).into_iter().chain(b.into_iter().flat_map(|b| frame(b, 2))).collect()
}

#[test]
fn the_embedded_tokenizer_frames_by_hand() {
    let tokenizer = Tokenizer::from_bytes(build_tokenizer_json().as_bytes()).unwrap();
    for (document, max_len) in (0..400).zip((5..48).cycle()) {
        let (first, second) = Corpus::new(3).document(document);
        let encoding = tokenizer.encode(&first, second.as_deref(), max_len).unwrap();
        assert_eq!(encoding.ids, by_hand(&tokenizer, &first, second.as_deref(), max_len));
        assert_eq!(encoding.types, vec![0; encoding.ids.len()]);
    }
}

/// What the library does by itself.
fn library(file: &Value, first: &str, second: &str, max_len: usize) -> Encoding {
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap();
    let params = TruncationParams { max_length: max_len, ..TruncationParams::default() };
    tokenizer.with_truncation(Some(params)).unwrap();
    let whole = tokenizer.encode((first, second), true).unwrap();
    Encoding { ids: whole.get_ids().to_vec(), types: whole.get_type_ids().to_vec(), truncated: 0 }
}

proptest! {
    #[test]
    fn truncation_is_the_library_s_but_for_the_odd_place(n_a in 0usize..12, n_b in 0usize..12, room in 1usize..24) {
        let text = |n: usize| "abcdefghij".chars().cycle().take(n).map(|c| format!("{c} ")).collect::<String>();
        let (first, second) = (text(n_a), text(n_b));
        let both_cut = n_a.min(n_b) > room / 2 && n_a + n_b > room;
        for (file, special) in [(bert(), 3), (llama(), 2), (gpt2(&Value::Null), 0)] {
            let ours = read(&file).encode(&first, Some(&second), room + special).unwrap();
            prop_assert_eq!(ours.truncated, (n_a + n_b).saturating_sub(room));
            if n_a + n_b + special == 0 {
                prop_assert_eq!(&ours.ids, &[0], "the end token stands for nothing at all");
                continue;
            }
            let first_is_longer = n_a.min(room + special) > n_b.min(room + special);
            if !both_cut || room % 2 == 0 || first_is_longer {
                let theirs = library(&file, &first, &second, room + special);
                prop_assert_eq!((&ours.ids, &ours.types), (&theirs.ids, &theirs.types));
            }
            prop_assert_eq!(ours.ids.len(), (n_a + n_b).min(room) + special);
        }
    }
}

#[test]
fn an_empty_text_is_one_end_token_where_there_is_no_frame() {
    let empty = |file: &Value, second| read(file).encode("", second, 9).unwrap().ids;
    // GPT-2 gives an empty text no token; a batch of such texts would have no column to read a label from.
    assert_eq!((empty(&gpt2(&Value::Null), None), empty(&gpt2(&Value::Null), Some(""))), (vec![0], vec![0]));
    assert_eq!((empty(&bert(), None), empty(&llama(), None)), (vec![2, 3], vec![1]));
    let example = |first: &str| Example { first: first.to_owned(), second: None, label: 0.0 };
    let bare = read(&words(&["?"], &Value::Null));
    let error = EncodedSet::encode_all(&bare, &[example("a"), example("")], 9).unwrap_err().to_string();
    let found = "row 2: the text is empty, and this tokenizer has neither a frame nor an end token to stand for it";
    assert!(error.starts_with(found), "{error}");
}

#[test]
fn truncated_rows_are_counted() {
    let example = |first: &str, second: Option<&str>| {
        let second = second.map(str::to_owned);
        Example { first: first.to_owned(), second, label: 0.0 }
    };
    let examples = [example("a b c", None), example("a b c d", None), example("a", Some("b c")), example("a", None)];
    let count = |max_len| EncodedSet::encode_all(&read(&bert()), &examples, max_len).unwrap().truncated;
    assert_eq!([4, 5, 6, 7].map(count), [3, 2, 0, 0]);
}

#[test]
fn batches_carry_types() {
    let tokenizer = read(&bert());
    let pair = Encoded::labelled(tokenizer.encode("a", Some("b"), 9).unwrap(), 1.0);
    let learnt = Encoded::causal(vec![5, 6, 7], vec![false, true, true]);
    let set = EncodedSet::whole(vec![pair, learnt]);
    let batch = Batch::gather(&set, &[1, 0], 3, 1);
    assert_eq!(batch.types, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]);
}
