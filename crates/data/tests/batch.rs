//! Tokens, batches and masks.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use data::batch::{Batch, Encoded, EncodedSet};
use data::corpus::{Corpus, Text};
use data::mask::{Masking, mask};
use data::tokenize::{Tokenizer, build_tokenizer_json};

fn tokenizer() -> Tokenizer {
    Tokenizer::from_bytes(build_tokenizer_json().as_bytes()).expect("the file is valid")
}

#[track_caller]
fn check(first: &str, second: Option<&str>, max_len: usize, tokens: &str) {
    let tokenizer = tokenizer();
    let ids = tokenizer.encode(first, second, max_len).expect("there is room").ids;
    let text: Vec<String> = ids.iter().map(|&id| tokenizer.token(id).expect("ids are tokens")).collect();
    assert_eq!(text.join(" "), tokens);
}

#[test]
fn roberta_form() {
    check("the dog slept .", None, 16, "<s> the dog slept . </s>");
    check("the dog slept .", Some("where slept ?"), 16, "<s> the dog slept . </s> </s> where slept ? </s>");
    check("The dog slept.", None, 16, "<s> the dog slept . </s>");
    check("the zyzzyva slept .", None, 16, "<s> the <unk> slept . </s>");
}

#[test]
fn the_longer_text_is_shortened() {
    check("the dog slept .", None, 5, "<s> the dog slept </s>");
    check("the dog slept .", Some("where slept ?"), 10, "<s> the dog slept </s> </s> where slept ? </s>");
    check("the dog slept .", Some("where slept ?"), 8, "<s> the dog </s> </s> where slept </s>");
    let error = tokenizer().encode("the dog", Some("who"), 4).unwrap_err().to_string();
    assert_eq!(error, "max_length: is `4`, but the special tokens alone take 4; use at least 5");
}

#[test]
fn special_ids() {
    let tokenizer = tokenizer();
    let last = tokenizer.vocab_size() as u32 - 1;
    assert_eq!(tokenizer.special_ids(), [0, 1, 2, 3, last]);
    assert_eq!(tokenizer.id("<mask>"), Some(last));
}

#[test]
fn what_the_file_says_about_padding_and_truncation_is_ignored() {
    let mut file: serde_json::Value = serde_json::from_str(&build_tokenizer_json()).unwrap();
    file["truncation"] =
        serde_json::json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    file["padding"] = serde_json::json!({"strategy": {"Fixed": 40}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 1, "pad_type_id": 0, "pad_token": "<pad>"});
    let tokenizer = Tokenizer::from_bytes(file.to_string().as_bytes()).expect("the file is valid");
    assert_eq!(tokenizer.encode("the dog slept .", None, 32).unwrap().ids.len(), 6);
}

#[test]
fn broken_files_are_refused() {
    let error = Tokenizer::from_bytes(b"{}").unwrap_err().to_string();
    assert!(error.starts_with("tokenizer: not a tokenizer.json: "), "{error}");
    let without_mask = build_tokenizer_json().replace("<mask>", "<masque>");
    let error = Tokenizer::from_bytes(without_mask.as_bytes()).unwrap().mask_id().unwrap_err().to_string();
    assert!(error.starts_with("tokenizer: the vocabulary has no token `<mask>`"), "{error}");
}

fn set() -> EncodedSet {
    let row = |ids: &[u32], label| Encoded { ids: ids.to_vec(), label, ..Encoded::default() };
    EncodedSet::whole(vec![row(&[0, 5, 2], 1.0), row(&[0, 6, 7, 8, 2], 2.0), row(&[0, 9, 2], 0.0)])
}

#[test]
fn gather_pads_and_fills() {
    let batch = Batch::gather(&set(), &[1, 0], 3, 1);
    assert_eq!((batch.rows, batch.seq), (3, 5));
    assert_eq!(batch.ids, [0, 6, 7, 8, 2, 0, 5, 2, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(batch.lengths, [5, 3, 0]);
    assert_eq!(batch.row(1), [0, 5, 2, 1, 1]);
}

fn corpus_batch(tokenizer: &Tokenizer, rows: u64) -> Batch {
    let corpus = Corpus::new(1);
    let encode = |i| {
        let (first, second) = corpus.document(i);
        Encoded::labelled(tokenizer.encode(&first, second.as_deref(), 48).expect("there is room"), 0.0)
    };
    let set = EncodedSet::whole((0..rows).map(encode).collect());
    let indices: Vec<usize> = (0..set.rows.len()).collect();
    Batch::gather(&set, &indices, set.rows.len() + 1, tokenizer.pad_id().unwrap())
}

#[test]
fn targets_are_words_and_come_in_the_stated_shares() {
    let tokenizer = tokenizer();
    let batch = corpus_batch(&tokenizer, 4000);
    let masking = Masking::new(Text::Pairs, &tokenizer).unwrap();
    let masked = mask(batch.clone(), &masking, 7, 3);
    let special = tokenizer.special_ids();
    let (mut n_masked, mut n_kept) = (0, 0);
    for (&position, &target) in masked.positions.iter().zip(&masked.targets) {
        assert_eq!(batch.ids[position as usize], target);
        assert!(!special.contains(&target));
        n_masked += usize::from(masked.batch.ids[position as usize] == tokenizer.mask_id().unwrap());
        n_kept += usize::from(masked.batch.ids[position as usize] == target);
    }
    let rows: std::collections::BTreeSet<usize> = masked.positions.iter().map(|&p| p as usize / batch.seq).collect();
    assert_eq!(rows, (0..4000).collect(), "every row has a target, the filler row has none");
    let n = masked.targets.len() as f64;
    assert!((n_masked as f64 / n - 0.8).abs() < 0.02 && (n_kept as f64 / n - 0.1).abs() < 0.02);
    let n_words = batch.ids.iter().filter(|id| !special.contains(id)).count() as f64;
    assert!((0.12..0.2).contains(&(n / n_words)), "{} of the words are targets", n / n_words);
    let changed = batch.ids.iter().zip(&masked.batch.ids).filter(|(a, b)| a != b).count();
    assert_eq!(changed, masked.targets.len() - n_kept, "only targets change");
}

#[test]
fn a_mask_depends_on_seed_step_and_row_only() {
    let tokenizer = tokenizer();
    let (few, many) = (corpus_batch(&tokenizer, 10), corpus_batch(&tokenizer, 50));
    let masking = Masking::new(Text::Pairs, &tokenizer).unwrap();
    let of = |batch: &Batch, seed, step| mask(batch.clone(), &masking, seed, step);
    assert_eq!(of(&few, 1, 1), of(&few, 1, 1));
    assert_ne!(of(&few, 1, 1).positions, of(&few, 1, 2).positions);
    assert_ne!(of(&few, 1, 1).positions, of(&few, 2, 1).positions);
    let (a, b) = (of(&few, 1, 1), of(&many, 1, 1));
    for r in 0..10 {
        assert_eq!(a.batch.row(r)[..few.lengths[r]], b.batch.row(r)[..few.lengths[r]]);
    }
}
