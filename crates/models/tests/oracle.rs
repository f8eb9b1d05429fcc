//! Tiny checkpoints made by transformers and PEFT (`scripts/oracle/models.py`): hidden states, logits, losses and gradients.
//!
//! Tolerances: values 1e-5 of the largest (f32; transformers' own distance from an f64 run is up to 8e-6), gradients 1e-4 of the
//! largest of their tensor, which sums many of these errors.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![allow(clippy::disallowed_methods, reason = "fixtures are files")]

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{DType, Device, Tensor, activation};
use models::{
    backbone::Backbone,
    config::{Config, Purpose},
    head::{Classifier, Head},
    network::{NamedParam, Network},
    tokens::{Layout, Row, Tokens},
    weights::Weights,
};
use safetensors::{Dtype, SafeTensors};
use variants::{
    host::{Placement, values},
    pass::{Active, Pass},
    preset,
    slot::{RunPlan, StackPlan},
};

const VALUES: f64 = 1e-5;
const GRADIENTS: f64 = 1e-4;
/// Rank and alpha of every adapter of the fixtures.
const RANK: usize = 4;
const ALPHA: f64 = 8.0;

type Numbers = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

fn folder(arch: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(arch)
}

fn numbers(arch: &str, file: &str) -> Numbers {
    let bytes = std::fs::read(folder(arch).join(file)).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let one = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
            Dtype::I64 => data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            other => panic!("{name} is {other:?}"),
        };
        (name, (view.shape().to_vec(), values))
    };
    read.tensors().into_iter().map(one).collect()
}

fn weights(arch: &str, config: &Config) -> Weights {
    let mut weights = Weights::default();
    let mut files: Vec<_> = std::fs::read_dir(folder(arch))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("model"))
        .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
        .collect();
    files.sort();
    for path in files {
        weights.add(&std::fs::read(path).unwrap(), config.prefixes()).unwrap();
    }
    weights
}

/// A checkpoint and what transformers says of it.
struct Oracle {
    arch: &'static str,
    config: Config,
    weights: Weights,
    backbone: Backbone,
    expected: Numbers,
}

impl Oracle {
    fn new(arch: &'static str) -> Self {
        let config = Config::read(&std::fs::read(folder(arch).join("config.json")).unwrap()).unwrap();
        let weights = weights(arch, &config);
        let purpose = if config.is_causal() { Purpose::Continue } else { Purpose::Classify };
        let backbone = Backbone::new(&config, &weights, purpose, &Placement::new(&Device::flex(), DType::F32)).unwrap();
        Self { arch, config, weights, backbone, expected: numbers(arch, "expected.safetensors") }
    }

    fn get(&self, name: &str) -> &[f64] {
        &self.expected.get(name).unwrap_or_else(|| panic!("{}: no `{name}`", self.arch)).1
    }

    fn lengths(&self) -> Vec<usize> {
        self.get("lengths").iter().map(|v| *v as usize).collect()
    }

    fn seq(&self) -> usize {
        self.expected["input_ids"].0[1]
    }

    /// The batch, widened by `more` columns of padding.
    fn tokens(&self, more: usize) -> Tokens {
        Tokens::new(self.layout(more), self.backbone.place())
    }

    /// All rows packed into one line.
    fn packed(&self) -> Tokens {
        let ids: Vec<u32> = self.get("input_ids").iter().map(|id| *id as u32).collect();
        let types: Vec<u32> =
            self.expected.get("type_ids").iter().flat_map(|(_, types)| types).map(|kind| *kind as u32).collect();
        let seq = self.seq();
        let row = |(row, length): (usize, usize)| Row {
            ids: &ids[row * seq..][..length],
            types: types.get(row * seq..row * seq + length).unwrap_or_default(),
        };
        let rows: Vec<Row<'_>> = self.lengths().into_iter().enumerate().map(row).collect();
        Tokens::new(Layout::packed(&rows, 1, seq + 3, 0, self.backbone.scheme()), self.backbone.place())
    }

    fn layout(&self, more: usize) -> Layout {
        let seq = self.seq();
        let widen = |values: &[f64]| -> Vec<u32> {
            values
                .chunks(seq)
                .flat_map(|row| row.iter().map(|v| *v as u32).chain(std::iter::repeat_n(0, more)).collect::<Vec<_>>())
                .collect()
        };
        let types = self.expected.get("type_ids").map(|(_, types)| widen(types)).unwrap_or_default();
        Layout::new(&widen(self.get("input_ids")), &types, &self.lengths(), self.backbone.scheme())
    }

    /// Compares `[rows, seq + more, width]` at real positions.
    #[track_caller]
    fn real_positions(&self, what: &str, found: &Tensor<3>, more: usize) {
        let [_, seq, width] = found.dims();
        assert_eq!(seq, self.seq() + more);
        let (found, wanted) = (values(found), self.get(what).to_vec());
        let mut pairs = Vec::new();
        for (row, length) in self.lengths().into_iter().enumerate() {
            for at in 0..length * width {
                pairs.push((found[row * seq * width + at], wanted[row * self.seq() * width + at]));
            }
        }
        close(&format!("{} {what}", self.arch), &pairs, VALUES);
    }

    /// A network with PEFT's adapter on it, or with none.
    fn network(&self, adapter: Option<&Numbers>) -> Network {
        let (variant, targets) = match adapter {
            None => ((preset::find("head_only").unwrap().spec)(0), BTreeSet::new()),
            Some(adapter) => {
                let mut spec = (preset::find("lora").unwrap().spec)(RANK);
                spec.dropout = 0.0;
                let maps = adapter.keys().filter_map(|name| name.strip_suffix(".lora_A.weight"));
                (spec, maps.map(|map| self.short(map)).collect())
            }
        };
        self.attached(&variant, targets)
    }

    fn attached(&self, spec: &variants::spec::VariantSpec, targets: BTreeSet<String>) -> Network {
        let plan = StackPlan::new(spec.check(None).unwrap(), vec![RunPlan { init_seed: 0, alpha: ALPHA }], targets);
        let mut network = Network::new(self.backbone.clone());
        let head = if self.config.is_causal() {
            Head::Causal
        } else {
            Head::Classifier(Classifier::new(
                &network.backbone,
                &plan,
                &[3],
                &self.weights.only(self.config.head_names()),
            ))
        };
        network.attach(&plan, head).unwrap();
        network
    }

    /// The name of a map without what PEFT and the architecture put in front.
    fn short(&self, map: &str) -> String {
        let map = map.strip_prefix("base_model.model.").unwrap_or(map);
        self.config.prefixes().iter().find_map(|prefix| map.strip_prefix(prefix)).unwrap_or(map).to_owned()
    }

    /// Puts PEFT's factors (`A: [r, d_in]`, `B: [d_out, r]`) on.
    fn load(&self, network: &mut Network, adapter: &Numbers) {
        let place = network.backbone.place().clone();
        let by_name: BTreeMap<String, &(Vec<usize>, Vec<f64>)> = adapter
            .iter()
            .filter(|(name, _)| name.contains("lora_"))
            .map(|(name, tensor)| {
                let end = if name.ends_with("lora_A.weight") { "a" } else { "b" };
                (format!("{}.{end}", self.short(name.split(".lora_").next().unwrap())), tensor)
            })
            .collect();
        let mut met = 0;
        for NamedParam { name, mut param, .. } in network.parameters(0) {
            let Some((shape, values)) = by_name.get(&name) else { continue };
            let turned = transposed(values, shape[0], shape[1]);
            assert_eq!(param.tensor.dims(), [1, shape[1], shape[0]], "{name}");
            param.tensor.set(place.tensor(turned, [1, shape[1], shape[0]]));
            met += 1;
        }
        assert_eq!(met, by_name.len(), "every factor has its place");
    }

    /// Logits, the loss of transformers and the flat logits' shape: of the row's class, or of the next real token.
    fn loss(&self, network: &Network) -> (Tensor<3>, Tensor<1>) {
        self.loss_of(network, &self.tokens(0))
    }

    fn loss_of(&self, network: &Network, tokens: &Tokens) -> (Tensor<3>, Tensor<1>) {
        let pass = Pass::evaluation(1);
        let place = network.backbone.place();
        if !self.config.is_causal() {
            let logits = network.classify(tokens, &pass).remove(0); // [1, rows, 3]
            let chosen: Vec<f64> = self
                .get("labels")
                .iter()
                .flat_map(|label| (0..3).map(move |class| f64::from(u8::from(class == *label as usize)) / 4.0))
                .collect();
            let loss = (activation::log_softmax(logits.clone(), 2) * place.tensor(chosen, [1, 4, 3])).sum().neg();
            return (logits, loss);
        }
        let seq = self.seq();
        let all: Vec<u32> = (0..(4 * seq) as u32).collect();
        let hidden = network.backbone.forward(tokens, &pass);
        let logits =
            network.continue_at(&hidden, &[models::head::index(&all, network.backbone.place())], &pass).remove(0); // [1, rows·seq, V]
        let [_, _, vocabulary] = logits.dims();
        let ids = self.get("input_ids");
        let count: usize = self.lengths().iter().map(|length| length - 1).sum();
        let mut chosen = vec![0.0; 4 * seq * vocabulary];
        for (row, length) in self.lengths().into_iter().enumerate() {
            for at in 1..length {
                chosen[(row * seq + at - 1) * vocabulary + ids[row * seq + at] as usize] = 1.0 / count as f64;
            }
        }
        let loss =
            (activation::log_softmax(logits.clone(), 2) * place.tensor(chosen, [1, 4 * seq, vocabulary])).sum().neg();
        (logits.reshape([4, seq, vocabulary]), loss)
    }

    #[track_caller]
    fn logits(&self, what: &str, found: &Tensor<3>) {
        if self.config.is_causal() {
            return self.real_positions(what, found, 0);
        }
        let pairs: Vec<_> = values(found).into_iter().zip(self.get(what).iter().copied()).collect();
        close(&format!("{} {what}", self.arch), &pairs, VALUES);
    }
}

/// `[rows, cols]` to `[cols, rows]`.
fn transposed(values: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    (0..cols).flat_map(|c| (0..rows).map(move |r| values[r * cols + c])).collect()
}

/// Every pair within `tolerance` of the largest value wanted.
#[track_caller]
fn close(what: &str, pairs: &[(f64, f64)], tolerance: f64) {
    let scale = pairs.iter().map(|(_, wanted)| wanted.abs()).fold(1e-6, f64::max);
    let worst = pairs.iter().map(|(found, wanted)| (found - wanted).abs()).fold(0.0, f64::max);
    assert!(!pairs.is_empty() && worst <= tolerance * scale.max(1.0), "{what}: off by {worst:e} at a scale of {scale}");
}

const ALL: [&str; 6] = ["bert", "bert_bare", "roberta", "gpt2", "llama", "llama_tied"];
const WITH_HEAD: [&str; 5] = ["bert", "roberta", "gpt2", "llama", "llama_tied"];

#[test]
fn hidden_states_are_those_of_transformers() {
    for oracle in ALL.map(Oracle::new) {
        let pass = Pass::evaluation(1);
        let network = oracle.network(None);
        let hidden = network.backbone.forward(&oracle.tokens(0), &pass);
        oracle.real_positions("hidden", &hidden, 0);
        if oracle.expected.contains_key("pooled") {
            let pooled = network.backbone.pooled(&oracle.tokens(0), &pass);
            let pairs: Vec<_> = values(&pooled).into_iter().zip(oracle.get("pooled").iter().copied()).collect();
            close("pooled", &pairs, VALUES);
        }
    }
}

#[test]
fn padding_changes_nothing() {
    for oracle in ALL.map(Oracle::new) {
        let hidden = oracle.network(None).backbone.forward(&oracle.tokens(5), &Pass::evaluation(1));
        oracle.real_positions("hidden", &hidden, 5);
    }
}

#[test]
fn logits_and_losses_are_those_of_transformers() {
    for oracle in WITH_HEAD.map(Oracle::new) {
        let (logits, loss) = oracle.loss(&oracle.network(None));
        oracle.logits("logits", &logits);
        close("loss", &[(values(&loss)[0], oracle.get("loss")[0])], VALUES);
    }
}

/// Holds logits, loss and gradients under PEFT's adapter against PEFT's, for a batch of the fixture's rows.
fn as_in_peft(oracle: &Oracle, tokens: &Tokens) {
    let adapter = numbers(oracle.arch, "adapter/adapter_model.safetensors");
    let mut network = oracle.network(Some(&adapter));
    oracle.load(&mut network, &adapter);
    network.track();
    let (logits, loss) = oracle.loss_of(&network, tokens);
    oracle.logits("lora.logits", &logits.without_autodiff());
    let value = values(&loss.clone().without_autodiff())[0];
    close("lora.loss", &[(value, oracle.get("lora.loss")[0])], VALUES);
    let mut gradients = loss.backward();
    let mut compared = 0;
    for NamedParam { name, param, .. } in network.parameters(0) {
        let found = values(&param.tensor.grad_remove(&mut gradients).unwrap_or_else(|| panic!("{name}: no gradient")));
        let peft = |name: &str| {
            let (map, end) = name.rsplit_once('.').unwrap();
            match end {
                "a" => format!("{map}.lora_A.weight"),
                "b" => format!("{map}.lora_B.weight"),
                _ => name.to_owned(),
            }
        };
        let key = oracle
            .expected
            .keys()
            .find(|key| key.strip_prefix("grad.").is_some_and(|key| oracle.short(key) == peft(&name)));
        let (shape, wanted) = &oracle.expected[key.unwrap_or_else(|| panic!("{}: no gradient of {name}", oracle.arch))];
        let wanted = if shape.len() == 2 { transposed(wanted, shape[0], shape[1]) } else { wanted.clone() };
        let scale = wanted.iter().map(|v| v.abs()).fold(0.0, f64::max);
        let worst = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst <= GRADIENTS * scale, "{} {name}: off by {worst:e} of {scale:e}", oracle.arch);
        compared += 1;
    }
    let all = oracle.expected.keys().filter(|key| key.starts_with("grad.")).count();
    assert_eq!(compared, all, "{}: every gradient was compared", oracle.arch);
}

#[test]
fn an_adapter_of_peft_computes_what_it_computes_there() {
    for oracle in WITH_HEAD.map(Oracle::new) {
        as_in_peft(&oracle, &oracle.tokens(0));
    }
}

#[test]
fn packed_rows_compute_what_padded_ones_do() {
    for oracle in ["bert", "roberta"].map(Oracle::new) {
        as_in_peft(&oracle, &oracle.packed());
    }
}

#[test]
fn merged_is_unmerged_and_is_pefts_merge() {
    for oracle in WITH_HEAD.map(Oracle::new) {
        let adapter = numbers(oracle.arch, "adapter/adapter_model.safetensors");
        let mut network = oracle.network(Some(&adapter));
        oracle.load(&mut network, &adapter);
        let bare = StackPlan::new(
            (preset::find("head_only").unwrap().spec)(0).check(None).unwrap(),
            vec![RunPlan { init_seed: 0, alpha: 1.0 }],
            BTreeSet::new(),
        );
        let merged = network.merged(0, 0, &Active::All, &bare).unwrap();
        oracle.logits("merged.logits", &oracle.loss(&merged).0);
    }
}

/// GPT-2's query and value adapted apart: a hand-written `MergedLinear` of loralib in torch is the oracle.
#[test]
fn parts_of_a_fused_map_are_adapted_alone() {
    let oracle = Oracle::new("gpt2");
    let mut spec = (preset::find("lora").unwrap().spec)(RANK);
    spec.dropout = 0.0;
    let slots = ["q", "v"].iter().flat_map(|part| (0..2).map(move |layer| (layer, *part)));
    let name = |layer: usize, part: &str| format!("h.{layer}.attn.c_attn.{part}");
    let targets: BTreeSet<String> = slots.clone().map(|(layer, part)| name(layer, part)).collect();
    let mut network = oracle.attached(&spec, targets);
    let place = network.backbone.place().clone();
    let factor = |layer: usize, part: &str, end: &str| {
        let (shape, values) = &oracle.expected[&format!("qv.{layer}.{part}.{end}")];
        (transposed(values, shape[0], shape[1]), [1, shape[1], shape[0]])
    };
    for NamedParam { name: full, mut param, .. } in network.parameters(0) {
        let (layer, part) = slots.clone().find(|(layer, part)| full.starts_with(&(name(*layer, part) + "."))).unwrap();
        let end = if full.rsplit('.').next() == Some("a") { "A" } else { "B" };
        let (values, shape) = factor(layer, part, end);
        param.tensor.set(place.tensor(values, shape));
    }
    network.track();
    let (logits, loss) = oracle.loss(&network);
    oracle.logits("qv.logits", &logits.without_autodiff());
    close("qv.loss", &[(values(&loss.clone().without_autodiff())[0], oracle.get("qv.loss")[0])], VALUES);
    let mut gradients = loss.backward();
    for NamedParam { name: full, param, .. } in network.parameters(0) {
        let (layer, part) = slots.clone().find(|(layer, part)| full.starts_with(&(name(*layer, part) + "."))).unwrap();
        let end = if full.rsplit('.').next() == Some("a") { "A" } else { "B" };
        let (shape, wanted) = &oracle.expected[&format!("qv.grad.{layer}.{part}.{end}")];
        let wanted = transposed(wanted, shape[0], shape[1]);
        let found = values(&param.tensor.grad_remove(&mut gradients).unwrap());
        let scale = wanted.iter().map(|v| v.abs()).fold(0.0, f64::max);
        let worst = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst <= GRADIENTS * scale, "{full}: off by {worst:e} of {scale:e}");
    }
    // Merging goes into the parts; the whole follows, and another stack may then adapt either.
    let bare = StackPlan::new(
        (preset::find("head_only").unwrap().spec)(0).check(None).unwrap(),
        vec![RunPlan { init_seed: 0, alpha: 1.0 }],
        BTreeSet::new(),
    );
    let merged = network.merged(0, 0, &Active::All, &bare).unwrap();
    oracle.logits("qv.logits", &oracle.loss(&merged).0);
}

/// Two stacks of one cohort, one on the whole and one on its parts: each computes what it computes alone.
#[test]
fn whole_and_parts_live_in_one_cohort() {
    let oracle = Oracle::new("gpt2");
    let spec = || {
        let mut spec = (preset::find("dora").unwrap().spec)(2);
        spec.dropout = 0.0;
        spec
    };
    let targets = |ends: &[&str]| -> BTreeSet<String> {
        (0..2).flat_map(|layer| ends.iter().map(move |end| format!("h.{layer}.attn.{end}"))).collect()
    };
    let (whole, parts) = (targets(&["c_attn"]), targets(&["c_attn.q", "c_attn.v"]));
    let stir = |network: &mut Network, stack: usize| {
        let place = network.backbone.place().clone();
        for NamedParam { mut param, .. } in network.parameters(stack) {
            let dims @ [_, rows, cols] = param.tensor.dims();
            let values = (0..rows * cols).map(|i| (i as f64 * 0.7 + rows as f64).sin() * 0.3).collect();
            param.tensor.set(param.tensor.clone() + place.tensor(values, dims));
        }
    };
    let alone = |targets: &BTreeSet<String>| {
        let mut network = oracle.attached(&spec(), targets.clone());
        stir(&mut network, 0);
        values(&network.backbone.forward(&oracle.tokens(0), &Pass::evaluation(1)))
    };
    let mut both = oracle.attached(&spec(), whole.clone());
    let plan = StackPlan::new(spec().check(None).unwrap(), vec![RunPlan { init_seed: 0, alpha: ALPHA }], parts.clone());
    both.attach(&plan, Head::Causal).unwrap();
    stir(&mut both, 0);
    stir(&mut both, 1);
    let twice = |values: &[f64]| -> Vec<u32> { values.iter().chain(values).map(|v| *v as u32).collect() };
    let lengths = [oracle.lengths(), oracle.lengths()].concat();
    let tokens = both.backbone.tokens(&twice(oracle.get("input_ids")), &[], &lengths);
    let pass = Pass::of(vec![variants::pass::StackPass::evaluation(1), variants::pass::StackPass::evaluation(1)]);
    let found = values(&both.backbone.forward(&tokens, &pass));
    let wanted = [alone(&whole), alone(&parts)].concat();
    let pairs: Vec<_> = found.into_iter().zip(wanted).collect();
    close("a cohort of whole and parts", &pairs, VALUES);
}

#[test]
fn tensors_that_are_missing_or_misshapen_are_all_named() {
    let place = Placement::new(&Device::flex(), DType::F32);
    let oracle = Oracle::new("llama");
    let mut weights = Weights::default();
    weights.insert("norm.weight", vec![7], vec![0.0; 7]);
    let error = Backbone::new(&oracle.config, &weights, Purpose::Continue, &place).unwrap_err().to_string();
    assert!(error.contains("`embed_tokens.weight` [80, 32] is missing"), "{error}");
    assert!(error.contains("`layers.1.mlp.down_proj.weight`") && error.contains("`lm_head.weight`"), "{error}");
    assert!(error.contains("`norm.weight` is [7], but the configuration says [32]"), "{error}");
}

#[test]
fn every_tensor_of_a_file_is_used_or_named() {
    let unused = |arch: &'static str, purpose| {
        let oracle = Oracle::new(arch);
        oracle.weights.unused(&oracle.config.wanted(purpose))
    };
    assert_eq!(unused("bert_bare", Purpose::Classify), ["embeddings.position_ids"]);
    assert_eq!(unused("bert", Purpose::Classify), ["classifier.bias", "classifier.weight"]);
    assert!(unused("gpt2", Purpose::Continue).is_empty() && unused("llama_tied", Purpose::Continue).is_empty());
    assert_eq!(unused("llama", Purpose::Classify), ["lm_head.weight"]);
}
