//! Decoders: generation as transformers does it, and losses of texts token by token.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{collections::BTreeSet, path::PathBuf};

use burn::tensor::{DType, Device};
use data::causal::decode::Decoding;
use models::{
    backbone::Backbone,
    config::{Config, Purpose},
    head::Head,
    network::Network,
    weights::Weights,
};
use serde_json::Value;
use trainer::{
    error::TrainError,
    evaluate::language_model::{Continuing, continuations},
    stop::Stop,
};
use variants::{
    host::Placement,
    pass::Active,
    preset,
    slot::{RunPlan, StackPlan},
};

fn fixture(arch: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures").join(arch)
}

fn network(arch: &str) -> Network {
    let config = Config::read(&std::fs::read(fixture(arch).join("config.json")).unwrap()).unwrap();
    let mut weights = Weights::default();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(fixture(arch)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("model"));
    files.retain(|path| path.extension().is_some_and(|end| end == "safetensors"));
    files.sort();
    for path in files {
        weights.add(&std::fs::read(path).unwrap(), config.prefixes()).unwrap();
    }
    let place = Placement::new(&Device::flex(), DType::F32);
    let mut network = Network::new(Backbone::new(&config, &weights, Purpose::Continue, &place).unwrap());
    let plan = StackPlan::new(
        (preset::find("head_only").unwrap().spec)(0).check(None).unwrap(),
        vec![RunPlan { init_seed: 0, alpha: 1.0 }],
        BTreeSet::new(),
    );
    network.attach(&plan, Head::Causal).unwrap();
    network
}

fn lists(value: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(value.clone()).unwrap()
}

/// `generate.json` of `scripts/oracle/models.py`: greedy and beam search, some texts ending early, prompts of unlike lengths, which
/// are padded here and were run one by one there.
#[test]
fn texts_are_those_of_generate() {
    for arch in ["gpt2", "llama", "llama_tied"] {
        let network = network(arch);
        let oracle: Value =
            serde_json::from_slice(&std::fs::read(fixture(arch).join("generate.json")).unwrap()).unwrap();
        let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
        let (end, prompts) = (oracle["eos_token_id"].as_u64().unwrap() as u32, lists(&oracle["prompts"]));
        let most = number(&oracle["max_new_tokens"]);
        let beam = &oracle["beam"];
        let greedy = Decoding { max_new_tokens: most, ..Decoding::default() };
        let beams = Decoding {
            max_new_tokens: most,
            beams: number(&beam["num_beams"]),
            length_penalty: beam["length_penalty"].as_f64().unwrap(),
            no_repeat_ngram: number(&beam["no_repeat_ngram_size"]),
        };
        for (decoding, outputs) in [(greedy, &oracle["greedy"]["outputs"]), (beams, &beam["outputs"])] {
            let how = Continuing { end, decoding: &decoding, active: &Active::All, pad: 0, stop: Stop::NEVER };
            let found = continuations(&network, &prompts, &how).unwrap();
            let cut = lists(outputs).iter().filter(|text| text.last() != Some(&end)).count();
            assert_eq!(found.cut, cut, "{arch}, {decoding:?}: texts that do not end by themselves");
            for ((found, prompt), wanted) in found.texts.iter().zip(&prompts).zip(lists(outputs)) {
                let mut wanted = wanted[prompt.len()..].to_vec();
                if wanted.last() == Some(&end) {
                    wanted.pop();
                }
                assert_eq!(*found, wanted, "{arch}, {decoding:?}, prompt {prompt:?}");
            }
        }
    }
}

#[test]
fn a_search_stops_between_two_tokens() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let network = network("gpt2");
    let prompts = vec![vec![1_u32, 2, 3]; 20_000];
    let decoding = Decoding { max_new_tokens: 16, ..Decoding::default() };
    let asked = AtomicBool::new(false);
    // No token ends a text, so that all of them would take minutes.
    let how = Continuing { end: u32::MAX, decoding: &decoding, active: &Active::All, pad: 0, stop: Stop::on(&asked) };
    let found = std::thread::scope(|scope| {
        let search = scope.spawn(|| continuations(&network, &prompts, &how));
        std::thread::sleep(std::time::Duration::from_millis(50));
        asked.store(true, Ordering::Relaxed);
        search.join().unwrap()
    });
    assert!(matches!(found, Err(TrainError::Interrupted)));
}
