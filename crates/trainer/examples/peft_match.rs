//! What PEFT needs to repeat a run of this program: the trained tensors at the start under its names, the rows of every batch; and the
//! losses of the run here.
//!
//! ```text
//! cargo run --release -p trainer --example peft_match -- EXPERIMENT.yaml OUT
//! python scripts/peft_study.py --model MODEL --task TASK --data DATA --init OUT/init.safetensors --batches OUT/batches.json \
//!     --dropout 0
//! ```
//! The first cell of the experiment is taken, a LoRA on a BERT-like encoder.
#![allow(clippy::print_stderr, reason = "a command of its own")]

use std::{collections::BTreeMap, error::Error, path::PathBuf};

use burn::tensor::{DType, Device};
use data::order::epoch_order;
use models::network::NamedParam;
use record::{CodeIdentity, Store};
use safetensors::tensor::{Dtype, TensorView};
use trainer::{
    model_cache::ModelCache,
    stop::Stop,
    study::{context::StudyContext, plan::CohortPlan},
};
use variants::{
    host::{Placement, values},
    stream::{self, Stream},
};

/// PEFT's name of a tensor, and whether it is kept the other way round.
fn theirs(name: &str) -> (String, bool) {
    match name.rsplit_once('.') {
        Some((map, "a")) => (format!("base_model.model.bert.{map}.lora_A.weight"), true),
        Some((map, "b")) => (format!("base_model.model.bert.{map}.lora_B.weight"), true),
        _ => (format!("base_model.model.{name}"), name.ends_with("weight")),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    let [path, out] = arguments.as_slice() else { return Err("give an experiment and a folder".into()) };
    let text = std::fs::read_to_string(path)?;
    let experiment = experiment::read(&text, &path.display().to_string(), "match", &[])?;
    let cell = experiment.cells().first().ok_or("the experiment has no cells")?;
    let cache = ModelCache::new(Placement::new(&Device::flex(), DType::F32));
    let store = Store::open(out, "unused")?;
    let code = CodeIdentity { code_hash: String::new(), commit: String::new(), dirty: true };
    let context = StudyContext {
        cache: &cache,
        store: &store,
        code: &code,
        versions: &BTreeMap::new(),
        device: "flex",
        cohort: None,
        workers: 1,
        among: 1,
        stays: true,
        lease: None,
        keeps_records: false,
        stop: Stop::NEVER,
    };
    let plan = CohortPlan::new(std::slice::from_ref(cell), &context)?;
    let batches = plan.batches(&context)?;
    let mut cohort = plan.build(&context)?;
    let steps = cohort.total_steps();
    std::fs::create_dir_all(out)?;

    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for NamedParam { name, param, .. } in cohort.network.parameters(0) {
        let [_, rows, cols] = param.tensor.dims();
        let (name, turned) = theirs(&name);
        let all = values(&param.tensor);
        let (shape, ordered): (Vec<usize>, Vec<f64>) = if name.ends_with("bias") {
            (vec![cols], all)
        } else if turned {
            let turned = (0..cols).flat_map(|c| (0..rows).map(move |r| (r, c))).map(|(r, c)| all[r * cols + c]);
            (vec![cols, rows], turned.collect())
        } else {
            (vec![rows, cols], all)
        };
        tensors.push((name, shape, ordered.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect()));
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    std::fs::write(out.join("init.safetensors"), safetensors::serialize(views, None)?)?;

    let sampler = &batches.samplers[0][0];
    let (lengths, rows) = (sampler.set.lengths(), cell.recipe.train.batch);
    let seed = stream::key(cell.recipe.seeds.data, Stream::Data, "order");
    let per_epoch = lengths.len().div_ceil(rows) as u64;
    let order: Vec<Vec<usize>> = (0..steps)
        .map(|step| epoch_order(&lengths, rows, seed, step / per_epoch).swap_remove((step % per_epoch) as usize))
        .collect();
    std::fs::write(out.join("batches.json"), serde_json::to_string(&order)?)?;

    let mut losses = Vec::new();
    while cohort.step < steps {
        let report = cohort.advance(&batches);
        losses.push(report.runs[0].entry.task_loss);
        eprintln!("step {}: {}", cohort.step, losses[losses.len() - 1]);
    }
    std::fs::write(out.join("losses.json"), serde_json::to_string(&losses)?)?;
    Ok(())
}
