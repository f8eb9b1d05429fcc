//! The masked-language-modelling head that an encoder was pretrained with.

use variants::host::Placement;

use super::MaskedLm;
use crate::{
    encoder::{Config, Kind},
    error::ModelError,
    weights::{Start, Wanted, Weights},
};

/// The head's tensors under this program's names, which are RoBERTa's, and under BERT's.
const NAMES: [(&str, &str); 5] = [
    ("lm_head.dense.weight", "cls.predictions.transform.dense.weight"),
    ("lm_head.dense.bias", "cls.predictions.transform.dense.bias"),
    ("lm_head.layer_norm.weight", "cls.predictions.transform.LayerNorm.weight"),
    ("lm_head.layer_norm.bias", "cls.predictions.transform.LayerNorm.bias"),
    ("lm_head.bias", "cls.predictions.bias"),
];

impl MaskedLm {
    /// The head of a checkpoint, whose output is tied to the word embeddings; an error names every tensor that is missing or of another
    /// shape.
    pub fn of_checkpoint(config: &Config, weights: &Weights, place: &Placement) -> Result<Self, ModelError> {
        let d = config.hidden_size;
        let shape = |name: &str| match name {
            "lm_head.dense.weight" => vec![d, d],
            "lm_head.bias" => vec![config.vocab_size],
            _ => vec![d],
        };
        let stored =
            |(own, of_bert): (&'static str, &'static str)| (own, if config.kind == Kind::Bert { of_bert } else { own });
        let wanted: Vec<Wanted> = NAMES
            .map(stored)
            .into_iter()
            .map(|(own, name)| Wanted { name: name.to_owned(), shape: shape(own), start: Start::Zeros })
            .collect();
        weights.check(&wanted)?;
        let mut renamed = Weights::default();
        for (own, name) in NAMES.map(stored) {
            renamed.insert(own, shape(own), weights.get(name).to_vec());
        }
        Ok(Self::new(config, &renamed, 1, place))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};
    use variants::host::values;

    use super::*;

    const CONFIG: &str = r#"{"model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_act": "gelu", "hidden_size": 4,
        "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 6, "max_position_embeddings": 8,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0, "initializer_range": 0.02, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0}"#;

    /// `BertLMPredictionHead` by loops: `E·LN(gelu(W x + b)) + c`, with the Gaussian's distribution by Abramowitz and Stegun 7.1.26, whose
    /// error is below 1.5e-7.
    #[test]
    fn the_head_of_bert_is_read_under_its_names() {
        let crate::config::Config::Encoder(config) = crate::config::Config::read(CONFIG.as_bytes()).unwrap() else {
            unreachable!("it is BERT's")
        };
        let numbers =
            |n: usize, seed: usize| (0..n).map(|i| ((i * 7 + seed * 3) % 11) as f64 / 5.0 - 1.0).collect::<Vec<_>>();
        let (w, b, g, beta, c) = (numbers(16, 1), numbers(4, 2), numbers(4, 3), numbers(4, 4), numbers(6, 5));
        let (x, table) = (numbers(8, 6), numbers(24, 7));
        let mut weights = Weights::default();
        let stored = [&w, &b, &g, &beta, &c];
        for ((_, name), values) in NAMES.iter().zip(stored) {
            let shape = if values.len() == 16 { vec![4, 4] } else { vec![values.len()] };
            weights.insert(*name, shape, values.iter().map(|v| *v as f32).collect());
        }
        let place = Placement::new(&Device::flex(), DType::F64);
        let head = MaskedLm::of_checkpoint(&config, &weights, &place).unwrap();
        let got = values(&head.forward(&place.tensor(x.clone(), [1, 2, 4]), &place.tensor(table.clone(), [1, 6, 4])));
        let erf = |z: f64| {
            let t = 1.0 / (1.0 + 0.327_591_1 * z.abs());
            let poly = t
                * (0.254_829_592
                    + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
            (1.0 - poly * (-z * z).exp()).copysign(z)
        };
        for row in 0..2 {
            let linear = |o: usize| (0..4).map(|i| w[o * 4 + i] * x[row * 4 + i]).sum::<f64>() + b[o];
            let h: Vec<f64> = (0..4).map(linear).map(|z| z * 0.5 * (1.0 + erf(z / std::f64::consts::SQRT_2))).collect();
            let mean = h.iter().sum::<f64>() / 4.0;
            let variance = h.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 4.0;
            let h: Vec<f64> = (0..4).map(|i| (h[i] - mean) / (variance + 1e-12).sqrt() * g[i] + beta[i]).collect();
            for word in 0..6 {
                let wanted = (0..4).map(|i| h[i] * table[word * 4 + i]).sum::<f64>() + c[word];
                // The weights went through f32.
                assert!((got[row * 6 + word] - wanted).abs() < 1e-5, "{row} {word}: {} {wanted}", got[row * 6 + word]);
            }
        }
        let lacking = MaskedLm::of_checkpoint(&config, &Weights::default(), &place).unwrap_err().to_string();
        assert!(lacking.contains("cls.predictions.bias"), "{lacking}");
    }
}
