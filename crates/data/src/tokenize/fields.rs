//! The fields of `tokenizer_config.json` and what each of them does here.
//!
//! Most of them are set down in tokenizer.json too, and that file is read. transformers reads both, and where they differ, its releases and
//! classes follow one or the other. A field must therefore agree with tokenizer.json where a class reads it; where none does, a difference is
//! said. What the classes read was tried with transformers 4.57.6 and 5.24.0, the files being those of BERT, RoBERTa, GPT-2, Llama, Gemma,
//! Cohere and Qwen2.

use serde_json::Value;

use super::special::SPECIAL_TOKENS;
use crate::error::DataError;

/// What a field of `tokenizer_config.json` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Texts are made into tokens by it.
    Honoured,
    /// tokenizer.json decides, and the field must say the same.
    Agrees,
    /// It must have this value; without it, and with `null`, the value is meant.
    Only(bool),
    /// Nothing, for this reason.
    None(&'static str),
}

use Effect::{Agrees, Honoured, None as Nothing, Only};

const FIELDS: &[(&[&str], Effect)] = &[
    (SPECIAL_TOKENS, Honoured),
    (&["chat_template", "truncation_side"], Honoured),
    (&["add_bos_token", "add_eos_token", "add_prefix_space"], Agrees),
    (&["do_lower_case", "strip_accents", "tokenize_chinese_chars"], Agrees),
    (&["added_tokens_decoder", "additional_special_tokens", "extra_special_tokens"], Agrees),
    (&["fix_mistral_regex"], Agrees),
    (&["split_special_tokens"], Only(false)),
    (
        &["padding_side", "padding", "pad_to_multiple_of", "pad_token_type_id"],
        Nothing("padding is masked, on whichever side it stands"),
    ),
    (
        &["model_max_length", "max_len", "max_length", "truncation", "truncation_strategy", "stride"],
        Nothing("the experiment says how long a text may be, or else the model's own limit"),
    ),
    (&["clean_up_tokenization_spaces"], Nothing("the decoder of tokenizer.json counts, as in transformers 5")),
    (
        &[
            "tokenizer_class",
            "processor_class",
            "image_processor_type",
            "backend",
            "use_fast",
            "from_slow",
            "is_local",
            "local_files_only",
            "trust_remote_code",
            "init_inputs",
            "device_map",
        ],
        Nothing("says which Python class reads the files, and how"),
    ),
    (&["auto_map"], Nothing("no code of a model's folder runs here")),
    (
        &[
            "name_or_path",
            "_commit_hash",
            "transformers_version",
            "tokenizer_file",
            "vocab_file",
            "merges_file",
            "special_tokens_map_file",
        ],
        Nothing("says where the file comes from"),
    ),
    (
        &[
            "legacy",
            "sp_model_kwargs",
            "use_default_system_prompt",
            "spaces_between_special_tokens",
            "do_basic_tokenize",
            "never_split",
            "clean_text",
            "trim_offsets",
            "errors",
            "wordpieces_prefix",
            "add_dummy_prefix_space",
            "keep_accents",
            "remove_space",
        ],
        Nothing("concerns tokenizers in Python, or the making of tokenizer.json"),
    ),
    (
        &["model_input_names", "return_token_type_ids", "return_attention_mask", "verbose", "response_schema"],
        Nothing("concerns what a Python call returns"),
    ),
];

/// What a field does; none for an unknown field.
pub fn effect(field: &str) -> Option<Effect> {
    FIELDS.iter().find(|(names, _)| names.contains(&field)).map(|(_, effect)| *effect)
}

/// What tokenizer.json does, of the things that `tokenizer_config.json` may say too.
#[derive(Debug)]
pub(super) struct Facts {
    /// Whether the frame puts the start token first; none where it is not known which token that is.
    pub(super) adds_start: Option<bool>,
    /// Whether the frame puts the end token last.
    pub(super) adds_end: Option<bool>,
    /// The normalizer, as JSON.
    pub(super) normalizer: Value,
    /// The pre-tokenizer, as JSON.
    pub(super) pre_tokenizer: Value,
    /// Its added tokens, as JSON.
    pub(super) added: Vec<Value>,
    /// Fields of the configuration that name a token which tokenizer.json lacks, and the token.
    pub(super) missing: Vec<(&'static str, String)>,
}

/// What becomes of a configuration.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    /// Whether texts are cut on the left; none where the file does not say.
    pub(super) cuts_left: Option<bool>,
    /// What is passed over.
    pub(super) notes: Vec<String>,
}

const PLACE: &str = "tokenizer_config.json";
/// Classes that frame texts anew, by `add_bos_token` and `add_eos_token`, in transformers 4.
const FRAMING: [&str; 4] = ["LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer"];
/// Classes that normalise anew, by `do_lower_case` and its like. Without a word about it they lower letters.
const NORMALISING: [&str; 9] = [
    "BertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "MPNetTokenizer",
    "MobileBertTokenizer",
    "ConvBertTokenizer",
    "FunnelTokenizer",
    "LxmertTokenizer",
    "SqueezeBertTokenizer",
];

/// How transformers splits texts where `fix_mistral_regex` is on.
const MENDED_PATTERN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Compares a configuration with tokenizer.json; refuses all differences at once.
pub(super) fn sift(config: &Value, facts: &Facts) -> Result<Sifted, DataError> {
    let mut sifting = Sifting { config, facts, wrong: Vec::new(), sifted: Sifted::default() };
    sifting.truncation();
    sifting.frame();
    sifting.prefix();
    sifting.pattern();
    sifting.normalizer();
    sifting.tokens();
    sifting.missing();
    sifting.others();
    let Sifting { wrong, sifted, .. } = sifting;
    if wrong.is_empty() {
        return Ok(sifted);
    }
    Err(DataError::Text {
        place: PLACE.to_owned(),
        problem: wrong.join("; "),
        way_out: "make both files say the same; tokenizer.json is the one that is read here".to_owned(),
    })
}

struct Sifting<'a> {
    config: &'a Value,
    facts: &'a Facts,
    wrong: Vec<String>,
    sifted: Sifted,
}

impl Sifting<'_> {
    fn truncation(&mut self) {
        match &self.config["truncation_side"] {
            Value::Null => {}
            side if side == "right" || side == "left" => self.sifted.cuts_left = Some(side == "left"),
            other => self
                .wrong
                .push(format!("truncation_side is `{}`, but texts are cut on the `left` or `right`", shown(other))),
        }
    }

    fn frame(&mut self) {
        let reads = self.class().is_none_or(|class| FRAMING.contains(&class));
        for (field, place, found) in
            [("add_bos_token", "before", self.facts.adds_start), ("add_eos_token", "after", self.facts.adds_end)]
        {
            let (Some(wanted), Some(found)) = (self.switch(field), found) else { continue };
            if wanted != found {
                let does = if found { "one" } else { "none" };
                self.differ(reads, format!("{field} is `{wanted}`, but tokenizer.json puts {does} {place} a text"));
            }
        }
    }

    fn prefix(&mut self) {
        let (Some(wanted), Some(found)) = (self.switch("add_prefix_space"), self.facts.adds_space()) else { return };
        if wanted != found {
            let does = if found { "puts a" } else { "puts no" };
            self.wrong.push(format!("add_prefix_space is `{wanted}`, but tokenizer.json {does} space before a text"));
        }
    }

    /// transformers puts this pattern into tokenizers of Mistral that were made with another.
    fn pattern(&mut self) {
        let parts = flat(&self.facts.pre_tokenizer, "pretokenizers");
        let is_mended = parts.iter().any(|part| part["pattern"]["Regex"] == MENDED_PATTERN);
        if self.switch("fix_mistral_regex") == Some(true) && !is_mended {
            self.wrong.push("fix_mistral_regex is `true`, but tokenizer.json has another pattern".to_owned());
        }
    }

    fn normalizer(&mut self) {
        let normalizers = flat(&self.facts.normalizer, "normalizers");
        let of_type = |kind: &str| normalizers.iter().copied().find(|part| part["type"] == kind);
        let bert = of_type("BertNormalizer");
        let named = self.class().is_some_and(|class| NORMALISING.contains(&class));
        let reads = named || (self.class().is_none() && bert.is_some());
        let lowers = bert.map_or(of_type("Lowercase").is_some(), |bert| bert["lowercase"] == true);
        let strips = |said: &Value, lowers: bool| said.as_bool().unwrap_or(lowers);
        let strips_here = bert.map_or(of_type("StripAccents").is_some(), |bert| strips(&bert["strip_accents"], lowers));
        let splits = bert.is_none_or(|bert| bert["handle_chinese_chars"] != false);
        // A class that is named has defaults, which count like values.
        let default = |value: bool| named.then_some(value);
        let lower = self.switch("do_lower_case").or(default(true));
        let chinese = self.switch("tokenize_chinese_chars").or(default(true));
        let strip = self.switch("strip_accents").or(lower.filter(|lower| reads && *lower == lowers));
        for (field, wanted, found, does) in [
            ("do_lower_case", lower, lowers, "lowers letters"),
            ("strip_accents", strip, strips_here, "strips accents"),
            ("tokenize_chinese_chars", chinese, splits, "splits Chinese characters"),
        ] {
            let Some(wanted) = wanted.filter(|wanted| *wanted != found) else { continue };
            let written = if self.config[field].is_null() {
                format!("{field} is not there, which means `{wanted}`")
            } else {
                format!("{field} is `{wanted}`")
            };
            let not = if found { "" } else { " nowhere" };
            self.differ(reads, format!("{written}, but tokenizer.json{not} {does}"));
        }
    }

    /// Tokens that transformers would add to the vocabulary, or find in texts by other rules.
    fn tokens(&mut self) {
        let mut named: Vec<(&str, &Value)> = Vec::new();
        for field in ["added_tokens_decoder", "additional_special_tokens", "extra_special_tokens"] {
            match &self.config[field] {
                Value::Array(tokens) => named.extend(tokens.iter().map(|token| (field, token))),
                Value::Object(tokens) => named.extend(tokens.values().map(|token| (field, token))),
                Value::Null => {}
                other => {
                    self.wrong.push(format!("{field} is `{}`, but is a list or an object of tokens", shown(other)));
                }
            }
        }
        for (field, token) in named {
            let Some(content) = token.as_str().or_else(|| token["content"].as_str()) else {
                self.wrong.push(format!("{field} has `{}`, which is no token", shown(token)));
                continue;
            };
            let Some(found) = self.facts.added(content) else {
                self.wrong.push(format!("{field} has `{}`, which tokenizer.json has not added", clipped(content)));
                continue;
            };
            let rules = ["lstrip", "rstrip", "single_word", "normalized"].into_iter();
            for rule in rules.filter(|&rule| token[rule].is_boolean() && token[rule] != found[rule]) {
                let content = clipped(content);
                self.wrong
                    .push(format!("{field}: `{content}`: {rule} is `{}`, but not in tokenizer.json", token[rule]));
            }
        }
    }

    fn missing(&mut self) {
        for (field, token) in &self.facts.missing {
            let token = clipped(token);
            self.sifted
                .notes
                .push(format!("{PLACE}: {field} is `{token}`, which tokenizer.json lacks and nothing stands for"));
        }
    }

    fn others(&mut self) {
        const SHOWN: usize = 8;
        let Some(fields) = self.config.as_object() else {
            return self.wrong.push("is no object of fields".to_owned());
        };
        let mut unknown: Vec<String> = Vec::new();
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            match effect(name) {
                Some(Only(wanted)) if value.as_bool() != Some(wanted) => {
                    self.wrong.push(format!("{name} is `{}`, but only `{wanted}` is built in", shown(value)));
                }
                // Models of pictures and sounds name the tokens that stand for these.
                None if value.as_str().is_none_or(|token| self.facts.added(token).is_none()) => {
                    unknown.push(clipped(name));
                }
                _ => {}
            }
        }
        unknown.sort();
        let more = if unknown.len() > SHOWN { ", .." } else { "" };
        unknown.truncate(SHOWN);
        if !unknown.is_empty() {
            let unknown = unknown.join(", ");
            self.sifted
                .notes
                .push(format!("{PLACE}: fields that are not known here and have no effect: {unknown}{more}"));
        }
    }

    /// A difference is wrong where the class reads the field, and said where it does not.
    fn differ(&mut self, reads: bool, difference: String) {
        if reads {
            return self.wrong.push(difference);
        }
        let class = clipped(self.class().unwrap_or("no class"));
        self.sifted
            .notes
            .push(format!("{PLACE}: {difference}, which counts; `{class}` does not read the field either"));
    }

    /// The name of the Python class, that in Rust and that in Python alike.
    fn class(&self) -> Option<&str> {
        let class = self.config["tokenizer_class"].as_str()?;
        Some(class.strip_suffix("Fast").unwrap_or(class))
    }

    fn switch(&mut self, field: &str) -> Option<bool> {
        let value = &self.config[field];
        if !value.is_null() && !value.is_boolean() {
            self.wrong.push(format!("{field} is `{}`, but is `true` or `false`", shown(value)));
        }
        value.as_bool()
    }
}

impl Facts {
    fn added(&self, content: &str) -> Option<&Value> {
        self.added.iter().find(|token| token["content"] == content)
    }

    /// Whether a space is put before a text; none where the kind of tokenizer has no such thing.
    fn adds_space(&self) -> Option<bool> {
        if flat(&self.normalizer, "normalizers").iter().any(|part| part["type"] == "Prepend") {
            return Some(true);
        }
        let parts = flat(&self.pre_tokenizer, "pretokenizers");
        parts.into_iter().find_map(|part| match part["type"].as_str()? {
            "ByteLevel" => part["add_prefix_space"].as_bool(),
            "Metaspace" => Some(part["prepend_scheme"] != "never"),
            _ => None,
        })
    }
}

/// The parts of a sequence, or the one part.
fn flat<'a>(value: &'a Value, parts: &str) -> Vec<&'a Value> {
    value[parts].as_array().map_or_else(|| vec![value], |parts| parts.iter().collect())
}

fn shown(value: &Value) -> String {
    clipped(value.as_str().unwrap_or(&value.to_string()))
}

/// The first characters of a text that a file gives.
fn clipped(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST { text.to_owned() } else { text.chars().take(MOST).chain("..".chars()).collect() }
}
