//! config.json of a merged checkpoint: the base's own, with the class, the outputs and the type of the new one.

use data::task::Objective;
use serde_json::{Map, Value, json};

use crate::dtype::Dtype;

/// What the new configuration says.
pub(super) struct Wanted<'a> {
    /// Outputs of a classification head; none for a causal model.
    pub outputs: Option<usize>,
    /// What they predict, where that is known.
    pub objective: Option<&'a Objective>,
    /// The id of padding.
    pub pad: u32,
    /// The type of the numbers.
    pub dtype: Dtype,
}

/// config.json of the merged checkpoint from the base's.
pub(super) fn of_merged(base: &[u8], wanted: &Wanted<'_>) -> Result<Vec<u8>, String> {
    let mut config: Map<String, Value> = serde_json::from_slice(base).map_err(|error| error.to_string())?;
    let kind = config.get("model_type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let class = class(&kind, wanted.outputs.is_some())?;
    config.insert("architectures".to_owned(), json!([class]));
    config.remove("dtype"); // the newer name of the same, which older releases do not read
    config.insert("torch_dtype".to_owned(), json!(wanted.dtype.torch()));
    for stale in ["_name_or_path", "num_labels", "id2label", "label2id", "problem_type"] {
        config.remove(stale);
    }
    if let Some(outputs) = wanted.outputs {
        let names: Vec<String> = match wanted.objective {
            Some(Objective::Classification { labels }) if labels.len() == outputs => labels.clone(),
            _ => (0..outputs).map(|index| format!("LABEL_{index}")).collect(),
        };
        let problem = if outputs == 1 { "regression" } else { "single_label_classification" };
        let by_id: Map<String, Value> =
            names.iter().enumerate().map(|(id, name)| (id.to_string(), json!(name))).collect();
        let by_name: Map<String, Value> =
            names.iter().enumerate().map(|(id, name)| (name.clone(), json!(id))).collect();
        config.insert("num_labels".to_owned(), json!(outputs));
        config.insert("id2label".to_owned(), Value::Object(by_id));
        config.insert("label2id".to_owned(), Value::Object(by_name));
        config.insert("problem_type".to_owned(), json!(problem));
        // A decoder is classified by the last token that is no padding, so transformers asks for its id.
        if config.get("pad_token_id").is_none_or(Value::is_null) {
            config.insert("pad_token_id".to_owned(), json!(wanted.pad));
        }
    }
    let text = serde_json::to_string_pretty(&config).map_err(|error| error.to_string())?;
    Ok((text + "\n").into_bytes())
}

/// The class that transformers opens the checkpoint with.
fn class(kind: &str, classifies: bool) -> Result<String, String> {
    let family = match kind {
        "bert" => "Bert",
        "roberta" => "Roberta",
        "xlm-roberta" => "XLMRoberta",
        "camembert" => "Camembert",
        "gpt2" => "GPT2",
        "llama" => "Llama",
        "mistral" => "Mistral",
        "qwen2" => "Qwen2",
        other => return Err(format!("model_type is `{other}`, of which transformers' class is not known here")),
    };
    Ok(match (classifies, kind) {
        (true, _) => format!("{family}ForSequenceClassification"),
        (false, "gpt2") => "GPT2LMHeadModel".to_owned(),
        (false, _) => format!("{family}ForCausalLM"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(base: &str, wanted: &Wanted<'_>) -> Value {
        serde_json::from_slice(&of_merged(base.as_bytes(), wanted).unwrap()).unwrap()
    }

    #[test]
    fn classes_outputs_and_type_are_the_new_ones_and_the_rest_is_kept() {
        let labels = Objective::Classification { labels: vec!["no".into(), "yes".into()] };
        let wanted = Wanted { outputs: Some(2), objective: Some(&labels), pad: 7, dtype: Dtype::Bf16 };
        let base = r#"{"model_type": "bert", "architectures": ["BertModel"], "dtype": "float32", "pad_token_id": 0,
            "hidden_size": 8, "id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0}, "problem_type": "regression"}"#;
        let config = of(base, &wanted);
        assert_eq!(config["architectures"], json!(["BertForSequenceClassification"]));
        assert_eq!((&config["torch_dtype"], &config["dtype"]), (&json!("bfloat16"), &Value::Null));
        assert_eq!(config["id2label"], json!({"0": "no", "1": "yes"}));
        assert_eq!(config["label2id"], json!({"no": 0, "yes": 1}));
        assert_eq!(
            (&config["num_labels"], &config["problem_type"]),
            (&json!(2), &json!("single_label_classification"))
        );
        assert_eq!((&config["hidden_size"], &config["pad_token_id"]), (&json!(8), &json!(0)));

        let score = Objective::Regression { low: 0.0, high: 5.0 };
        let wanted = Wanted { outputs: Some(1), objective: Some(&score), ..wanted };
        let config = of(r#"{"model_type": "llama"}"#, &wanted);
        assert_eq!(config["problem_type"], json!("regression"));
        assert_eq!((&config["id2label"], &config["pad_token_id"]), (&json!({"0": "LABEL_0"}), &json!(7)));

        let wanted = Wanted { outputs: None, objective: Some(&Objective::Text), pad: 7, dtype: Dtype::F32 };
        let config = of(r#"{"model_type": "gpt2", "id2label": {"0": "a"}}"#, &wanted);
        assert_eq!(config["architectures"], json!(["GPT2LMHeadModel"]));
        assert_eq!((&config["id2label"], &config["pad_token_id"]), (&Value::Null, &Value::Null));
        assert!(of_merged(br#"{"model_type": "t5"}"#, &wanted).unwrap_err().contains("`t5`"));
    }
}
