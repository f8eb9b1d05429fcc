//! Fields of `tokenizer_config.json`: those of current releases agree with their tokenizer.json, and what departs is refused or said.
//!
//! What transformers does with a field was tried with its releases 4.57.6 and 5.24.0, on tokenizers of these forms.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use data::causal::{Encoder, instruction};
use data::tokenize::{
    Tokenizer,
    fields::{Effect, effect},
};
use serde_json::{Value, json};

/// A tokenizer of whole words: `special`, then `a` to `j`.
fn words(special: &[&str], normalizer: &Value, pre_tokenizer: &Value, post_processor: &Value) -> Value {
    let letters = "abcdefghij".chars().map(String::from);
    let all = special.iter().map(|&token| token.to_owned()).chain(letters);
    let vocab: serde_json::Map<String, Value> = all.enumerate().map(|(id, token)| (token, json!(id))).collect();
    let added = special.iter().enumerate().map(|(id, token)| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": *token == "<mask>", "rstrip": false,
            "normalized": false, "special": true})
    });
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": special[0]}})
}

fn bert_with(normalizer: &Value) -> Value {
    words(
        &["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"],
        normalizer,
        &json!({"type": "BertPreTokenizer"}),
        &json!({"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}),
    )
}

fn bert(lowercase: bool) -> Value {
    bert_with(
        &json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
        "lowercase": lowercase}),
    )
}

fn byte_level(add_prefix_space: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": true})
}

fn roberta() -> Value {
    words(
        &["<unk>", "<s>", "<pad>", "</s>", "<mask>"],
        &Value::Null,
        &byte_level(false),
        &json!({"type": "RobertaProcessing", "sep": ["</s>", 3], "cls": ["<s>", 1], "trim_offsets": true,
            "add_prefix_space": false}),
    )
}

fn gpt2() -> Value {
    words(&["<|endoftext|>"], &Value::Null, &byte_level(false), &byte_level(true))
}

fn qwen() -> Value {
    let split = json!({"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated", "invert": false});
    words(
        &["<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        &json!({"type": "NFC"}),
        &json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]}),
        &byte_level(false),
    )
}

/// A text begins with the second of the special tokens.
fn begun(special: &[&str], normalizer: &Value, pre_tokenizer: &Value) -> Value {
    let start = special[1];
    let part = |id: u32| json!({"SpecialToken": {"id": start, "type_id": id}});
    let text = |name: &str, id: u32| json!({"Sequence": {"id": name, "type_id": id}});
    words(
        special,
        normalizer,
        pre_tokenizer,
        &json!({"type": "TemplateProcessing", "single": [part(0), text("A", 0)],
            "pair": [part(0), text("A", 0), part(1), text("B", 1)],
            "special_tokens": {start: {"id": start, "ids": [1], "tokens": [start]}}}),
    )
}

fn llama2() -> Value {
    let normalizer = json!({"type": "Prepend", "prepend": "▁"});
    begun(&["<unk>", "<s>", "</s>"], &normalizer, &json!({"type": "Whitespace"}))
}

fn llama3() -> Value {
    begun(&["<unk>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"], &Value::Null, &byte_level(false))
}

fn gemma() -> Value {
    let split = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
    begun(&["<unk>", "<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"], &Value::Null, &split)
}

fn configured(tokenizer: &Value, config: &Value) -> Result<Tokenizer, String> {
    let tokenizer = Tokenizer::from_bytes(tokenizer.to_string().as_bytes()).unwrap();
    tokenizer.with_config(config.to_string().as_bytes()).map_err(|error| error.to_string())
}

fn special(content: &str) -> Value {
    json!({"content": content, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": true})
}

/// What the releases write. Those of transformers are what `save_pretrained` of the class wrote; those of the hub are its files' fields, by
/// the documentation of the models, with the tokens of the tokenizers above.
fn current() -> Vec<(&'static str, Value, Value)> {
    let huge: Value = serde_json::from_str("1000000000000000019884624838656").unwrap();
    let four = json!({"clean_up_tokenization_spaces": false, "extra_special_tokens": {}, "model_max_length": huge});
    let five = json!({"backend": "tokenizers", "is_local": true, "local_files_only": true, "model_max_length": huge});
    let with = |common: &Value, more: Value| {
        let fields = [common, &more].map(|part| part.as_object().unwrap().clone());
        Value::Object(fields.into_iter().flatten().collect())
    };
    let of_bert = |lower: bool| {
        json!({"cls_token": "[CLS]", "do_lower_case": lower, "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]",
            "strip_accents": null, "tokenize_chinese_chars": true, "tokenizer_class": "BertTokenizer", "unk_token": "[UNK]"})
    };
    let of_roberta = json!({"add_prefix_space": false, "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>",
        "errors": "replace", "mask_token": "<mask>", "pad_token": "<pad>", "sep_token": "</s>",
        "tokenizer_class": "RobertaTokenizer", "trim_offsets": true, "unk_token": "<unk>"});
    let of_gpt2 = json!({"add_prefix_space": false, "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "errors": "replace",
        "pad_token": null, "tokenizer_class": "GPT2Tokenizer", "unk_token": "<|endoftext|>"});
    let of_qwen2 = json!({"add_bos_token": false, "add_prefix_space": false,
        "added_tokens_decoder": {"1": special("<|endoftext|>"), "2": special("<|im_start|>"), "3": special("<|im_end|>")},
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "bos_token": null, "chat_template": "{{ messages }}",
        "clean_up_tokenization_spaces": false, "eos_token": "<|im_end|>", "errors": "replace", "model_max_length": 32768,
        "pad_token": "<|endoftext|>", "split_special_tokens": false, "tokenizer_class": "Qwen2Tokenizer", "unk_token": null});
    let of_llama = json!({"add_bos_token": true, "add_eos_token": false, "add_prefix_space": null, "bos_token": special("<s>"),
        "eos_token": special("</s>"), "legacy": false, "padding_side": "right", "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer", "unk_token": special("<unk>"), "use_default_system_prompt": false});
    vec![
        ("bert, 4.57", bert(true), with(&four, of_bert(true))),
        ("bert, 5.24", bert(true), with(&five, of_bert(true))),
        ("bert cased, 5.24", bert(false), with(&five, of_bert(false))),
        ("bert-base-cased", bert(false), json!({"do_lower_case": false, "model_max_length": 512})),
        ("roberta, 4.57", roberta(), with(&four, of_roberta.clone())),
        ("roberta, 5.24", roberta(), with(&five, of_roberta)),
        ("roberta-base", roberta(), json!({"model_max_length": 512})),
        ("gpt2, 4.57", gpt2(), with(&four, of_gpt2.clone())),
        ("gpt2, 5.24", gpt2(), with(&five, of_gpt2)),
        ("qwen2 and qwen3", qwen(), of_qwen2),
        ("qwen2, 5.24", qwen(), with(&five, json!({"add_prefix_space": null, "tokenizer_class": "Qwen2Tokenizer"}))),
        ("llama 2, 4.57", llama2(), with(&four, of_llama)),
        ("llama 2, 5.24", llama2(), with(&five, json!({"bos_token": "<s>", "tokenizer_class": "TokenizersBackend"}))),
        (
            "llama 3",
            llama3(),
            json!({"added_tokens_decoder": {"1": special("<|begin_of_text|>")}, "bos_token": "<|begin_of_text|>",
                "clean_up_tokenization_spaces": true, "eos_token": "<|eot_id|>", "model_max_length": 131_072,
                "model_input_names": ["input_ids", "attention_mask"], "tokenizer_class": "PreTrainedTokenizerFast"}),
        ),
        (
            "gemma",
            gemma(),
            json!({"add_bos_token": true, "add_eos_token": false, "additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"],
                "bos_token": "<bos>", "clean_up_tokenization_spaces": false, "eos_token": "<eos>", "model_max_length": huge,
                "pad_token": "<pad>", "sp_model_kwargs": {}, "spaces_between_special_tokens": false,
                "tokenizer_class": "GemmaTokenizer", "unk_token": "<unk>", "use_default_system_prompt": false,
                "eoi_token": "<end_of_turn>"}),
        ),
        (
            "all-MiniLM-L6-v2",
            bert(true),
            json!({"clean_up_tokenization_spaces": false, "cls_token": "[CLS]", "do_basic_tokenize": true, "do_lower_case": true,
                "mask_token": "[MASK]", "max_length": 128, "model_max_length": 256, "never_split": null,
                "pad_to_multiple_of": null, "pad_token": "[PAD]", "pad_token_type_id": 0, "padding_side": "right",
                "sep_token": "[SEP]", "stride": 0, "strip_accents": null, "tokenize_chinese_chars": true,
                "tokenizer_class": "BertTokenizer", "truncation_side": "right", "truncation_strategy": "longest_first",
                "unk_token": "[UNK]", "name_or_path": "nreimers/MiniLM-L6-H384-uncased"}),
        ),
    ]
}

#[test]
fn what_current_releases_write_is_known_and_agrees() {
    for (name, tokenizer, config) in current() {
        let configured = configured(&tokenizer, &config).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(configured.notes(), [""; 0], "{name}");
        assert!(!configured.cuts_left());
    }
    assert_eq!(effect("truncation_side"), Some(Effect::Honoured));
    assert!(matches!(effect("padding_side"), Some(Effect::None(reason)) if reason.contains("masked")));
    assert_eq!(effect("runes"), None);
}

#[track_caller]
fn refused(tokenizer: &Value, config: &Value, parts: &[&str]) {
    let error = configured(tokenizer, config).unwrap_err();
    for part in ["tokenizer_config.json: ", "make both files say the same"].iter().chain(parts) {
        assert!(error.contains(part), "`{error}` lacks `{part}`");
    }
}

#[test]
fn what_differs_from_tokenizer_json_is_refused_where_the_class_reads_it() {
    for class in
        ["LlamaTokenizer", "LlamaTokenizerFast", "GemmaTokenizer", "CodeLlamaTokenizerFast", "CohereTokenizerFast"]
    {
        let add = |field: &str, value: bool| json!({"tokenizer_class": class, field: value});
        refused(
            &llama2(),
            &add("add_bos_token", false),
            &["add_bos_token is `false`, but tokenizer.json puts one before"],
        );
        refused(
            &llama2(),
            &add("add_eos_token", true),
            &["add_eos_token is `true`, but tokenizer.json puts none after"],
        );
        refused(
            &gpt2(),
            &add("add_bos_token", true),
            &["add_bos_token is `true`, but tokenizer.json puts none before"],
        );
    }
    refused(&llama2(), &json!({"add_eos_token": true}), &["add_eos_token is `true`"]);
    refused(
        &roberta(),
        &json!({"add_prefix_space": true}),
        &["add_prefix_space is `true`", "puts no space before a text"],
    );
    refused(&qwen(), &json!({"add_prefix_space": true}), &["add_prefix_space is `true`"]);
    refused(&llama2(), &json!({"add_prefix_space": false}), &["add_prefix_space is `false`", "puts a space"]);
    let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": false});
    let mistral = begun(&["<unk>", "<s>", "</s>"], &Value::Null, &metaspace);
    refused(&mistral, &json!({"add_prefix_space": true}), &["add_prefix_space is `true`"]);

    for class in ["BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "ElectraTokenizer"] {
        let with = |field: &str, value: bool| json!({"tokenizer_class": class, "do_lower_case": true, field: value});
        refused(
            &bert(false),
            &with("clean_text", true),
            &["do_lower_case is `true`, but tokenizer.json nowhere lowers letters"],
        );
        refused(&bert(true), &with("do_lower_case", false), &["do_lower_case is `false`, but tokenizer.json lowers"]);
        refused(&bert(true), &with("strip_accents", false), &["strip_accents is `false`, but tokenizer.json strips"]);
        refused(&bert(true), &with("tokenize_chinese_chars", false), &["tokenize_chinese_chars is `false`"]);
        // Without a word about it, these classes lower letters.
        let says_nothing = json!({"tokenizer_class": class});
        refused(&bert(false), &says_nothing, &["do_lower_case is not there, which means `true`"]);
    }
    refused(&bert(true), &json!({"do_lower_case": false}), &["do_lower_case is `false`"]);
    let lowers = json!({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}]});
    let config = json!({"tokenizer_class": "BertTokenizer", "do_lower_case": false, "strip_accents": false});
    refused(&bert_with(&lowers), &config, &["do_lower_case is `false`"]);

    for field in ["additional_special_tokens", "extra_special_tokens"] {
        refused(&gpt2(), &json!({field: ["a"]}), &[field, "`a`, which tokenizer.json has not added"]);
        refused(&gpt2(), &json!({field: {"image_token": "<image>"}}), &[field, "`<image>`"]);
    }
    let strips = json!({"added_tokens_decoder": {"1": {"content": "<s>", "lstrip": true, "special": true}}});
    refused(&roberta(), &strips, &["`<s>`: lstrip is `true`, but not in tokenizer.json"]);
    refused(&bert(true), &json!({"split_special_tokens": true}), &["split_special_tokens is `true`, but only `false`"]);
    refused(&qwen(), &json!({"fix_mistral_regex": true}), &["fix_mistral_regex is `true`", "another pattern"]);
    refused(&bert(true), &json!({"truncation_side": "up"}), &["truncation_side is `up`"]);
    refused(&bert(true), &json!({"do_lower_case": "yes"}), &["do_lower_case is `yes`, but is `true` or `false`"]);
    refused(&bert(true), &json!({"added_tokens_decoder": {"1": 7}}), &["`7`, which is no token"]);
    refused(&bert(true), &json!([1]), &["is no object"]);
    // All of them at once.
    let both = json!({"truncation_side": "up", "split_special_tokens": true});
    refused(&bert(true), &both, &["truncation_side", "split_special_tokens"]);
}

#[test]
fn what_no_class_reads_is_said() {
    let note = |tokenizer: &Value, config: Value| configured(tokenizer, &config).unwrap().notes().join("\n");
    assert_eq!(
        note(&llama3(), json!({"tokenizer_class": "PreTrainedTokenizerFast", "add_eos_token": true})),
        "tokenizer_config.json: add_eos_token is `true`, but tokenizer.json puts none after a text, which counts; `PreTrainedTokenizer` \
         does not read the field either"
    );
    // A stray field of a sentence transformer.
    let stray = note(&roberta(), json!({"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": true}));
    assert!(
        stray.contains("do_lower_case is `true`, but tokenizer.json nowhere lowers letters, which counts"),
        "{stray}"
    );
    assert_eq!(
        note(&gpt2(), json!({"runes": 1, "nothing": null, "more": {}, "bos_token": "<s>", "pad_token": "<pad>"})),
        "tokenizer_config.json: bos_token is `<s>`, which tokenizer.json lacks and nothing stands for\n\
         tokenizer_config.json: fields that are not known here and have no effect: more, runes"
    );
}

#[test]
fn truncation_side_decides_which_end_is_cut() {
    let tokenizer = configured(&bert(true), &json!({"truncation_side": "left"})).unwrap();
    assert!(tokenizer.cuts_left());
    let cut = |first: &str, second: Option<&str>, max_len: usize| {
        let encoding = tokenizer.encode(first, second, max_len).unwrap();
        let tokens: Vec<String> = encoding.ids.iter().map(|&id| tokenizer.token(id).unwrap()).collect();
        format!("{} {}", tokens.join(" "), encoding.truncated)
    };
    // As transformers cuts them with `truncation=True, max_length=..`.
    assert_eq!(cut("a b c d e", None, 4), "[CLS] d e [SEP] 3");
    assert_eq!(cut("a b c d", Some("e f g"), 8), "[CLS] b c d [SEP] f g [SEP] 2");
    assert_eq!(cut("a b", Some("c d e f"), 7), "[CLS] a b [SEP] e f [SEP] 2");
    assert_eq!(cut("a b c d e", Some("f g h i j"), 9), "[CLS] c d e [SEP] h i j [SEP] 4");
    assert_eq!(cut("a b", None, 4), "[CLS] a b [SEP] 0");

    // tokenizer.json has a side too, where it was saved after a truncation; tokenizer_config.json goes before it.
    let mut cut_left = bert(true);
    cut_left["truncation"] = json!({"direction": "Left", "max_length": 6, "strategy": "LongestFirst", "stride": 0});
    assert!(configured(&cut_left, &json!({})).unwrap().cuts_left());
    assert!(!configured(&cut_left, &json!({"truncation_side": "right"})).unwrap().cuts_left());
}

#[test]
fn items_of_causal_data_are_not_cut_on_the_left() {
    let tokenizer = configured(&llama3(), &json!({"truncation_side": "left", "eos_token": "<|eot_id|>"})).unwrap();
    let item = instruction::parse("d.jsonl", br#"{"prompt": "a", "completion": "b"}"#).unwrap().remove(0);
    let encode = |max_len| {
        let encoder = Encoder { file: "d.jsonl", tokenizer: &tokenizer, template: None, max_len };
        encoder.instruction(&item).map_err(|error| error.to_string())
    };
    let whole = encode(9).unwrap().ids.len();
    let error = encode(whole - 1).unwrap_err();
    for part in ["d.jsonl:1: the item has", "truncation_side", "raise max_length"] {
        assert!(error.contains(part), "`{error}` lacks `{part}`");
    }
    assert_eq!(encode(whole).unwrap().ids.len(), whole);
}
