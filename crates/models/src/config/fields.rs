//! The fields of config.json, by model type, and what each of them does here.
//!
//! A field is honoured, or has the one value that is built in and is refused with another, or has no effect for a stated reason. A field
//! that is in no list is said. The lists are those of transformers 4.57 and 5 and of files on the hub.

use serde_json::{Map, Value};

use crate::error::ModelError;

/// What a field of config.json does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The model is built by it.
    Honoured,
    /// It must have this value, as JSON; without it, and with `null` unless this is `true`, the value is meant.
    Only(&'static str),
    /// Nothing, for this reason.
    None(&'static str),
}

use Effect::{Honoured, None as Nothing, Only};

/// Fields that share an effect.
type Group = (&'static [&'static str], Effect);

const EVERY_TYPE: &[Group] = &[
    (&["model_type", "vocab_size", "initializer_range", "id2label", "label2id", "problem_type"], Honoured),
    (&["architectures", "num_labels", "_num_labels"], Nothing("the task decides on the head")),
    (&["finetuning_task", "task_specific_params"], Nothing("the experiment names the task")),
    (&["dtype", "torch_dtype", "use_bfloat16"], Nothing("weights are read in the type that they have")),
    (
        &["transformers_version", "_name_or_path", "name_or_path", "_commit_hash", "unsloth_version", "unsloth_fixed"],
        Nothing("says where the file comes from"),
    ),
    (
        &[
            "attn_implementation",
            "_attn_implementation",
            "_attn_implementation_autoset",
            "_attn_implementation_internal",
            "experts_implementation",
            "_experts_implementation",
            "chunk_size_feed_forward",
            "gradient_checkpointing",
            "use_cache",
            "output_past",
            "torchscript",
            "tf_legacy_loss",
            "pretraining_tp",
            "transformers.js_config",
        ],
        Nothing("computes the same in another way"),
    ),
    (
        &["return_dict", "use_return_dict", "output_hidden_states", "output_attentions", "_output_attentions"],
        Nothing("concerns what a Python call returns"),
    ),
    (&["auto_map"], Nothing("no code of a model's folder runs here")),
    (
        &["tokenizer_class", "prefix", "bos_token_id", "eos_token_id", "sep_token_id", "decoder_start_token_id"],
        Nothing("the tokenizer's files name the special tokens"),
    ),
    (&["cross_attention_hidden_size", "tie_encoder_decoder"], Nothing("concerns pairs of an encoder and a decoder")),
    (&["is_encoder_decoder", "add_cross_attention"], Only("false")),
    (&["pruned_heads", "per_layer_config"], Only("{}")),
    (&["quantization_config", "compression_config"], Only("null")),
    (
        &[
            "max_length",
            "min_length",
            "do_sample",
            "early_stopping",
            "num_beams",
            "num_beam_groups",
            "diversity_penalty",
            "temperature",
            "top_k",
            "top_p",
            "typical_p",
            "repetition_penalty",
            "length_penalty",
            "no_repeat_ngram_size",
            "encoder_no_repeat_ngram_size",
            "bad_words_ids",
            "num_return_sequences",
            "output_scores",
            "return_dict_in_generate",
            "forced_bos_token_id",
            "forced_eos_token_id",
            "remove_invalid_values",
            "exponential_decay_length_penalty",
            "suppress_tokens",
            "begin_suppress_tokens",
        ],
        Nothing("the experiment says how texts are generated"),
    ),
];

const ENCODERS: &[Group] = &[
    (
        &[
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
            "layer_norm_eps",
            "pad_token_id",
            "hidden_act",
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "classifier_dropout",
            "is_decoder",
        ],
        Honoured,
    ),
    (&["position_embedding_type"], Only("\"absolute\"")),
    (&["tie_word_embeddings"], Nothing("classification has no output projection")),
    (&["pooler_type"], Only("\"first_token_transform\"")),
    (
        &[
            "directionality",
            "pooler_fc_size",
            "pooler_num_attention_heads",
            "pooler_num_fc_layers",
            "pooler_size_per_head",
            "normalize_embeddings",
        ],
        Nothing("transformers' class does not read it"),
    ),
];

const GPT2: &[Group] = &[
    (
        &[
            "n_embd",
            "n_layer",
            "n_head",
            "n_inner",
            "n_positions",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "max_position_embeddings",
            "n_ctx",
            "layer_norm_epsilon",
            "activation_function",
            "embd_pdrop",
            "attn_pdrop",
            "resid_pdrop",
            "scale_attn_weights",
        ],
        Honoured,
    ),
    (&["scale_attn_by_inverse_layer_idx"], Only("false")),
    (&["tie_word_embeddings"], Only("true")),
    (&["reorder_and_upcast_attn"], Nothing("the softmax of attention is summed in f32")),
    (
        &[
            "summary_type",
            "summary_use_proj",
            "summary_activation",
            "summary_proj_to_labels",
            "summary_first_dropout",
            "n_special",
            "predict_special_tokens",
        ],
        Nothing("concerns a head for multiple choice, which is not built in"),
    ),
    (&["is_decoder"], Nothing("attention is causal in any case")),
    (&["pad_token_id"], Nothing("a row's length tells where it ends")),
];

const ROTARY: &[Group] = &[
    (
        &[
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "intermediate_size",
            "max_position_embeddings",
            "rms_norm_eps",
            "rope_theta",
            "rope_scaling",
            "rope_parameters",
            "original_max_position_embeddings",
            "hidden_act",
            "attention_dropout",
            "tie_word_embeddings",
        ],
        Honoured,
    ),
    (&["partial_rotary_factor"], Only("1.0")),
    (&["rope_interleaved", "use_mrope"], Only("false")),
    (&["is_decoder"], Nothing("attention is causal in any case")),
    (&["pad_token_id"], Nothing("a row's length tells where it ends")),
];

const LLAMA: &[Group] = &[
    (&["attention_bias", "mlp_bias"], Honoured),
    (
        &["sliding_window", "use_sliding_window", "max_window_layers", "layer_types"],
        Nothing("transformers' class does not read it"),
    ),
];

const MISTRAL: &[Group] = &[
    (&["sliding_window"], Honoured),
    (&["attention_bias", "mlp_bias"], Only("false")),
    (&["use_sliding_window", "max_window_layers", "layer_types"], Nothing("transformers' class does not read it")),
];

const QWEN2: &[Group] = &[
    (&["sliding_window", "use_sliding_window", "max_window_layers", "layer_types"], Honoured),
    (&["mlp_bias"], Only("false")),
    (&["attention_bias"], Nothing("queries, keys and values have biases in any case")),
];

/// The lists of a model type.
fn lists(model_type: &str) -> [&'static [Group]; 3] {
    let own: [&[Group]; 2] = match model_type {
        "gpt2" => [GPT2, &[]],
        "llama" => [ROTARY, LLAMA],
        "mistral" => [ROTARY, MISTRAL],
        "qwen2" => [ROTARY, QWEN2],
        _ => [ENCODERS, &[]],
    };
    [own[0], own[1], EVERY_TYPE]
}

/// What a field does in a model type; none for an unknown field.
pub fn effect(model_type: &str, field: &str) -> Option<Effect> {
    lists(model_type).into_iter().flatten().find(|(names, _)| names.contains(&field)).map(|(_, effect)| *effect)
}

/// Leaves the fields by which a model is built, refuses values that are not built in, all at once, and names unknown fields.
pub(super) fn sift(
    model_type: &str,
    fields: Map<String, Value>,
) -> Result<(Map<String, Value>, Vec<String>), ModelError> {
    let (mut honoured, mut unknown, mut wrong) = (Map::new(), Vec::new(), Vec::new());
    for (name, value) in fields {
        match effect(model_type, &name) {
            Some(Honoured) => {
                honoured.insert(name, value);
            }
            Some(Only(wanted)) if !holds(&value, wanted) => wrong.push(refusal(&name, &value, wanted)),
            None if !value.is_null() => unknown.push(name),
            _ => {}
        }
    }
    if wrong.is_empty() { Ok((honoured, unknown)) } else { Err(ModelError::Config(wrong.join("; "))) }
}

fn holds(value: &Value, wanted: &str) -> bool {
    let wanted: Value = serde_json::from_str(wanted).unwrap_or(Value::Null);
    let same_number = value.as_f64().is_some_and(|found| wanted.as_f64() == Some(found));
    *value == wanted || same_number || (value.is_null() && wanted != Value::Bool(true))
}

fn refusal(name: &str, value: &Value, wanted: &str) -> String {
    if let "quantization_config" | "compression_config" = name {
        let method = value["quant_method"].as_str().unwrap_or("of an unnamed method");
        return format!(
            "`{name}` says that the weights are quantised ({}), and quantised bases are not built in; save them in 16 or 32 bits, \
             with transformers by `model.dequantize()` and `save_pretrained`",
            clipped(method)
        );
    }
    format!("{name} is `{}`, but only `{}` is built in", shown(value), wanted.trim_matches('"'))
}

/// A value as it is written, without the quotes of a string, clipped where it is long.
pub(crate) fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| clipped(&value.to_string()), clipped)
}

/// The first characters of a text that a file gives.
pub(crate) fn clipped(text: &str) -> String {
    first(text, 60)
}

/// At most so many characters of a text.
pub(crate) fn first(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most).chain("..".chars()).collect() }
}
