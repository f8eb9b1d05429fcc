//! A fixture of `scripts/oracle/variants.py`, and the cohort that repeats its run.

use std::{collections::BTreeMap, sync::Arc};

use burn::tensor::{DType, Device, Tensor};
use data::{batch::Encoded, task::Objective};
use experiment::{
    cell::{Cell, Recipe},
    hyper::{Hyper, Schedule},
};
use models::{
    backbone::Backbone,
    config::{Config, Purpose},
    head::{Classifier, Head},
    modules::Modules,
    network::{NamedParam, Network},
    target::Target,
    weights::Weights,
};
use record::CellId;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use trainer::{
    batch::{BatchSource, HostBatch, Padding, RunRows, collate, forward},
    calibrate::{Taken, bare, take},
    cohort::{Cohort, Stack},
    step::optimizer::Adam,
    study::run_state::RunState,
};
use variants::{
    delta::DeltaSpec,
    host::{Placement, inner, values},
    layers::layer_of,
    pass::{Active, Pass, StackPass},
    preset,
    rank::RankPolicy,
    role::Role,
    slot::{RunPlan, StackPlan},
    spec::VariantSpec,
    stream::Seeds,
};

/// Values by our names, in our layout.
pub(crate) type Named64 = BTreeMap<String, Vec<f64>>;

fn file(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity");
    std::fs::read(folder.join(name)).unwrap()
}

/// PEFT's ending of a parameter's name, and ours. The first that fits counts.
const ENDINGS: &[(&str, &str)] = &[
    (".lora_A.weight", ".a"),
    (".lora_B.weight", ".b"),
    (".lora_embedding_A", ".a"),
    (".lora_embedding_B", ".b"),
    (".lora_magnitude_vector.weight", ".magnitude"),
    (".vera_lambda_d", ".lambda_d"),
    (".vera_lambda_b", ".lambda_b"),
    // AdaLoRA's factors are parameters, not maps.
    (".lora_A", ".q"),
    (".lora_E", ".lambda"),
    (".lora_B", ".p"),
    (".hada_w1_a", ".b1"),
    (".hada_w1_b", ".a1"),
    (".hada_w2_a", ".b2"),
    (".hada_w2_b", ".a2"),
    (".lokr_w1", ".w1"),
    (".lokr_w1_a", ".w1_up"),
    (".lokr_w1_b", ".w1_down"),
    (".lokr_w2", ".w2"),
    (".lokr_w2_a", ".w2_up"),
    (".lokr_w2_b", ".w2_down"),
    (".miss_block", ".block"),
    (".randlora_lambda", ".lambda"),
    (".randlora_gamma", ".gamma"),
    (".oft_R.weight", ".rotation"),
    (".boft_R", ".rotation"),
    (".boft_s", ".gain"),
    (".hra_u", ".u"),
    (".ia3_l", ".gain"),
    (".svdiff_shift", ".shift"),
    (".fourierft_spectrum", ".coefficients"),
    (".c3a_kernel", ".kernel"),
    (".shira_weight", ".entries"),
    (".delora_A", ".a"),
    (".delora_B", ".b"),
    (".delora_lambda", ".bound"),
    (".vblora_logits_A", ".logits_a"),
    (".vblora_logits_B", ".logits_b"),
];

/// What both sides keep in one layout: a table's rows are its tokens, those of MiSS its components; blocks of a rotation, reflections and
/// vectors of a bank.
const SAME_LAYOUT: [&str; 5] = ["embeddings.weight", ".miss_block", ".oft_R.weight", ".hra_u", "vblora_vector_bank"];

/// Our name of a parameter.
pub(crate) fn ours(name: &str) -> String {
    // torch names what many maps refer to after the first of them.
    if name.ends_with(".vblora_vector_bank") {
        return "tied.bank.4.vectors".to_owned();
    }
    let found = ENDINGS.iter().find_map(|(theirs, ours)| Some(format!("{}{ours}", name.strip_suffix(theirs)?)));
    found.unwrap_or_else(|| name.to_owned())
}

/// torch's matrices are kept the other way round; what both sides keep in one layout is not turned.
fn turned(name: &str, values: &[f64], shape: &[usize]) -> Vec<f64> {
    match *shape {
        // A piece of `B` is an output's first, a component's here.
        [pieces, rank, vectors] if name.ends_with(".vblora_logits_B") => (0..rank)
            .flat_map(|k| (0..pieces).map(move |piece| (piece * rank + k) * vectors))
            .flat_map(|at| values[at..at + vectors].iter().copied())
            .collect(),
        [rows, cols] if !SAME_LAYOUT.iter().any(|end| name.ends_with(end)) => transposed(values, rows, cols),
        _ => values.to_vec(),
    }
}

/// `[rows, cols]` to `[cols, rows]`.
fn transposed(values: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    (0..cols).flat_map(|c| (0..rows).map(move |r| values[r * cols + c])).collect()
}

/// What a reference implementation computed.
pub(crate) struct Reference {
    /// Its file without the ending.
    pub(crate) name: &'static str,
    tensors: BTreeMap<String, Vec<f64>>,
    setting: Value,
}

impl Reference {
    pub(crate) fn read(name: &'static str) -> Self {
        let bytes = file(&format!("{name}.safetensors"));
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let setting = serde_json::from_str(&header.metadata().as_ref().unwrap()["setting"]).unwrap();
        let one = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
                Dtype::F32 => data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
                other => panic!("{name} is {other:?}"),
            };
            (name, values)
        };
        let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter().map(one).collect();
        Self { name, tensors, setting }
    }

    pub(crate) fn all(&self, key: &str) -> &[f64] {
        self.tensors.get(key).unwrap_or_else(|| panic!("{}: no tensor `{key}`", self.name))
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.setting.get(key).is_some()
    }

    pub(crate) fn setting(&self, key: &str) -> &Value {
        self.setting.get(key).unwrap_or_else(|| panic!("{}: no setting `{key}`", self.name))
    }

    pub(crate) fn number(&self, key: &str) -> f64 {
        self.setting(key).as_f64().unwrap()
    }

    pub(crate) fn count(&self, key: &str) -> usize {
        self.setting(key).as_u64().unwrap() as usize
    }

    pub(crate) fn counts(&self, key: &str) -> Vec<usize> {
        self.setting(key).as_array().unwrap().iter().map(|value| value.as_u64().unwrap() as usize).collect()
    }

    pub(crate) fn numbers(&self, key: &str) -> Vec<f64> {
        self.setting(key).as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    }

    pub(crate) fn names(&self, key: &str) -> Vec<String> {
        self.setting(key).as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    }

    /// Names and shapes of what a packed tensor holds, in torch's layout.
    fn layout(&self, key: &str) -> Vec<(String, Vec<usize>)> {
        serde_json::from_value(self.setting(key).clone()).unwrap()
    }

    fn unpack(&self, values: &[f64], layout: &str) -> Named64 {
        let mut at = 0;
        let mut all = Named64::new();
        for (name, shape) in self.layout(layout) {
            let n: usize = shape.iter().product();
            all.insert(ours(&name), turned(&name, &values[at..at + n], &shape));
            at += n;
        }
        assert_eq!(at, values.len(), "{}: the layout `{layout}` covers the tensor", self.name);
        all
    }

    /// A tensor with one value per trained parameter.
    pub(crate) fn packed(&self, key: &str) -> Named64 {
        self.unpack(self.all(key), "layout")
    }

    /// Tensors of the adapter that do not train.
    pub(crate) fn frozen(&self) -> Named64 {
        if self.tensors.contains_key("frozen") { self.unpack(self.all("frozen"), "frozen") } else { Named64::new() }
    }

    /// What was taken of every map over the first batches.
    pub(crate) fn statistics(&self) -> Named64 {
        self.unpack(self.all("statistics"), "statistics")
    }

    /// EVA's first `A` of every map.
    pub(crate) fn first_a(&self) -> Named64 {
        let (mut at, mut all) = (0, Named64::new());
        for (name, shape) in self.layout("layout").into_iter().filter(|(name, _)| name.ends_with("lora_A.weight")) {
            let n: usize = shape.iter().product();
            all.insert(ours(&name), turned(&name, &self.all("first_a")[at..at + n], &shape));
            at += n;
        }
        all
    }

    /// Merged weights by map; `part` of several readouts.
    pub(crate) fn merged(&self, part: usize) -> Named64 {
        let n: usize = self.layout("maps").iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let mut all = Named64::new();
        let mut at = part * n;
        for (name, shape) in self.layout("maps") {
            let n: usize = shape.iter().product();
            all.insert(name.clone(), turned(&format!("{name}.weight"), &self.all("merged")[at..at + n], &shape));
            at += n;
        }
        all
    }

    /// Maps with an adapter; none where the base's own tensors train.
    pub(crate) fn maps(&self) -> Vec<String> {
        if self.has("maps") { self.layout("maps").into_iter().map(|(name, _)| name).collect() } else { Vec::new() }
    }

    /// The preset called `preset` at this run's rank and alpha.
    pub(crate) fn preset(&self, preset: &str) -> VariantSpec {
        let spec = (preset::find(preset).unwrap().spec)(self.count("rank"));
        VariantSpec { alpha: self.number("alpha"), ..spec }
    }
}

/// The fixture's batches in turn.
pub(crate) struct Given {
    batches: Vec<Vec<Encoded>>,
    objective: Objective,
    place: Placement,
}

impl Given {
    fn new(place: &Placement) -> Self {
        let all: Vec<Value> = serde_json::from_slice(&file("batches.json")).unwrap();
        let batch = |value: &Value| {
            let rows = |key: &str| -> Vec<Vec<u32>> { serde_json::from_value(value[key].clone()).unwrap() };
            let labels: Vec<f32> = serde_json::from_value(value["labels"].clone()).unwrap();
            let each = rows("ids").into_iter().zip(rows("types")).zip(labels);
            each.map(|((ids, types), label)| Encoded { ids, types, targets: Vec::new(), label }).collect()
        };
        let labels = ["a", "b", "c"].map(str::to_owned).to_vec();
        Self {
            batches: all.iter().map(batch).collect(),
            objective: Objective::Classification { labels },
            place: place.clone(),
        }
    }

    pub(crate) fn logits(&self, network: &Network, micro: u64, pass: &Pass) -> Tensor<3> {
        network.classify(&self.batch(network, micro).upload(&self.place).tokens, pass).remove(0)
    }
}

impl BatchSource for Given {
    fn batch(&self, network: &Network, micro: u64) -> HostBatch {
        let examples = &self.batches[micro as usize % self.batches.len()];
        let longest = examples.iter().map(|example| example.ids.len()).max().unwrap();
        // PEFT pads.
        let padding = Padding { token: 0, bucket: 1, at_least: longest };
        collate(network, &[vec![RunRows::new(examples.iter().collect(), 4, &self.objective)]], padding)
    }
}

/// The stack of a fixture's run.
fn plan(reference: &Reference, spec: &VariantSpec) -> StackPlan {
    StackPlan::new(
        spec.check(Some(reference.count("steps") as u64))
            .unwrap_or_else(|problems| panic!("{}: {problems:?}", reference.name)),
        vec![RunPlan { init_seed: seed(reference), alpha: spec.alpha }],
        reference.maps().into_iter().collect(),
    )
}

/// The fixtures' base with a stack and the checkpoint's head.
fn network(plan: &StackPlan, place: &Placement) -> Network {
    let config = Config::read(&file("config.json")).unwrap();
    let mut weights = Weights::default();
    weights.add(&file("model.safetensors"), config.prefixes()).unwrap();
    let mut network = Network::new(Backbone::new(&config, &weights, Purpose::Classify, place).unwrap());
    let head = Classifier::new(&network.backbone, plan, &[3], &weights.only(config.head_names()));
    network.attach(plan, Head::Classifier(head)).unwrap();
    network
}

/// A cohort of one run at a fixture's start.
pub(crate) struct Bench {
    pub(crate) cohort: Cohort,
    pub(crate) batches: Given,
    /// What `attach` drew, before the fixture's start took its place.
    pub(crate) fresh: Named64,
}

impl Bench {
    /// The fixture's run with `spec`.
    pub(crate) fn new(reference: &Reference, spec: &VariantSpec, dtype: DType) -> Self {
        let place = Placement::new(&Device::flex(), dtype);
        let mut plan = plan(reference, spec);
        if spec.delta.as_ref().and_then(DeltaSpec::calibration).is_some() {
            let taken = Self::statistics(reference, spec, dtype).into_iter();
            plan.calibrations = vec![Some(Arc::new(taken.map(|(map, (statistic, _))| (map, statistic)).collect()))];
        }
        let (network, steps) = (network(&plan, &place), reference.count("steps") as u64);
        let train = hyper(reference);
        let adam = Adam { beta1: train.beta1, beta2: train.beta2, epsilon: train.epsilon };
        let run = RunState::new(cell(reference, spec, train), steps);
        let cohort = Cohort::new(network, vec![Stack::new(vec![run], plan)], 1, adam);
        let mut bench = Self { cohort, batches: Given::new(&place), fresh: Named64::new() };
        bench.fresh = bench.tensors();
        bench.start(reference);
        bench
    }

    /// What the composition's start needs of the fixture's first batches.
    pub(crate) fn statistics(reference: &Reference, spec: &VariantSpec, dtype: DType) -> Taken {
        let (place, plan) = (Placement::new(&Device::flex(), dtype), plan(reference, spec));
        let calibration = spec.delta.as_ref().unwrap().calibration().unwrap();
        let mut network = network(&bare(&plan, plan.runs[0], calibration.statistic), &place);
        let given = Given::new(&place);
        take(calibration, &mut network, &plan.targets, &|network, micro| Ok(given.batch(network, micro as u64)))
            .unwrap()
    }

    /// Puts the fixture's adapter on. The base's own tensors and the head are there already, bit by bit.
    fn start(&mut self, reference: &Reference) {
        let mut start = reference.packed("start");
        start.extend(reference.frozen());
        let place = self.place();
        for NamedParam { name, mut param, .. } in self.cohort.network.parameters(0) {
            let Some(wanted) = start.remove(&name) else {
                let may = [Role::Projection, Role::Accumulated].contains(&param.role);
                assert!(may, "{}: no start of `{name}`", reference.name);
                continue;
            };
            match param.role {
                Role::Head | Role::Weight | Role::Bias | Role::Norm => {
                    assert_eq!(values(&param.tensor), wanted, "{}: {name}", reference.name);
                }
                _ => param.tensor.set(place.tensor(wanted, param.tensor.dims())),
            }
        }
        assert!(start.is_empty(), "{}: no place for {:?}", reference.name, start.keys());
    }

    pub(crate) fn place(&self) -> Placement {
        self.cohort.network.backbone.place().clone()
    }

    /// Every tensor of the run.
    pub(crate) fn tensors(&mut self) -> Named64 {
        let one = |NamedParam { name, param, .. }: NamedParam<'_>| (name, values(&inner(&param.tensor)));
        self.cohort.network.parameters(0).into_iter().map(one).collect()
    }

    /// First and second moments.
    pub(crate) fn moments(&self) -> [Named64; 2] {
        let moments = self.cohort.stacks[0].optimizer.moments();
        let first = moments.iter().map(|(name, of)| (name.clone(), values(&of.first))).collect();
        let second = moments.iter().map(|(name, of)| (name.clone(), values(&of.second))).collect();
        [first, second]
    }

    fn spec(&self) -> VariantSpec {
        self.cohort.stacks[0].plan.variant.spec().clone()
    }

    /// Components in use at a step.
    pub(crate) fn active(&self, step: u64) -> Active {
        let spec = self.spec();
        let seed = self.cohort.stacks[0].runs[0].cell.recipe.seeds.rank;
        spec.rank_policy.draw(spec.rank, seed, step).map_or(Active::All, |b| Active::Prefix(vec![b]))
    }

    /// Logits of the first batch with `active` components.
    pub(crate) fn logits(&self, active: Active) -> Vec<f64> {
        let pass = Pass::of(vec![StackPass::with(1, active)]);
        values(&inner(&self.batches.logits(&self.cohort.network, 0, &pass)))
    }

    /// Gradients of the first step, before clipping, as the optimizer sees them.
    pub(crate) fn gradients(&mut self) -> Named64 {
        let (spec, active, place) = (self.spec(), self.active(0), self.place());
        self.cohort.network.track();
        let pass = Pass::of(vec![StackPass::with(1, active.clone())]);
        let batch = self.batches.batch(&self.cohort.network, 0).upload(&place);
        let mut loss = forward::losses(&self.cohort.network, &batch, &pass).remove(0).sum();
        for (penalty, weight) in spec.penalties() {
            let Some(value) = self.cohort.network.penalty(0, penalty) else { continue };
            loss = loss + (value * weight).sum();
        }
        let mut gradients = loss.backward();
        let mut all = Named64::new();
        let slots = self.cohort.network.parameters(0);
        let layers = slots.iter().filter_map(|named| layer_of(&named.slot)).collect();
        let trained = spec.layers.trained(&layers, self.cohort.stacks[0].runs[0].cell.recipe.seeds.rank, 0);
        for NamedParam { name, param, slot } in slots {
            let Some(gradient) = param.tensor.grad_remove(&mut gradients) else { continue };
            let mut numbers = values(&gradient);
            let rests =
                layer_of(&slot).is_some_and(|layer| trained.as_ref().is_some_and(|some| !some.contains(&layer)));
            if rests || !spec.bilevel.trains(param.role, 0, self.cohort.stacks[0].runs[0].steps) {
                numbers.fill(0.0);
            }
            if let (Active::Prefix(ranks), Some(axis)) = (&active, param.rank_axis) {
                let (range, [_, _, cols]) = (spec.rank_policy.touched(ranks[0]), gradient.dims());
                for (at, number) in numbers.iter_mut().enumerate() {
                    if !range.contains(&(if axis == 1 { at / cols } else { at % cols })) {
                        *number = 0.0;
                    }
                }
            }
            all.insert(name, numbers);
        }
        all
    }
}

fn hyper(reference: &Reference) -> Hyper {
    Hyper {
        steps: Some(reference.count("steps") as u64),
        epochs: None,
        batch: 4,
        learning_rate: reference.number("learning_rate"),
        head_learning_rate: Some(reference.number("head_learning_rate")),
        weight_decay: reference.number("weight_decay"),
        warmup: 0.0,
        schedule: Schedule::Linear,
        epsilon: reference.number("epsilon"),
        clip: Some(reference.number("clip")),
        ..Hyper::default()
    }
}

/// The seed of the streams that the run draws from.
fn seed(reference: &Reference) -> u64 {
    if reference.has("seed") { reference.count("seed") as u64 } else { 0 }
}

fn cell(reference: &Reference, spec: &VariantSpec, train: Hyper) -> Cell {
    let seed = seed(reference);
    let id = CellId { task: "given".into(), variant: reference.name.into(), rank: spec.rank, seed };
    let plan = Recipe {
        suite: "given".into(),
        data: None,
        task: "given".into(),
        given: None,
        model: "given".into(),
        start_from: None,
        targets: Target::Endings(reference.maps()),
        modules: Modules::default(),
        preset: reference.name.into(),
        variant: spec.clone(),
        train,
        readouts: Vec::new(),
        holdout: None,
        forgetting: None,
        seeds: Seeds::all(seed),
    };
    Cell { id, recipe: plan, diff: Value::Null }
}
