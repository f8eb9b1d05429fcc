//! `predict`: logits, the benchmark's files to hand in, and generated texts.

use std::path::{Path, PathBuf};

use assets::device;
use burn::tensor::DType;
use data::{causal::score, glue, task::TaskInfo};
use experiment::cell::CellPlan;
use interop::{
    peft::{self, import::Purpose},
    predict::{self, Predicted},
};
use record::write_atomic;
use trainer::{adapter, error::TrainError, evaluate::predictions, library::Library, readout::Reader};
use variants::{host::Placement, pass::Active};

use crate::{
    args::Predict,
    terminal::{Failure, create_folder, note, print},
};

/// Predicts, and writes what was asked for.
pub(super) fn run(args: &Predict) -> Result<(), Failure> {
    check(args)?;
    let input = |error: TrainError| Failure::Input(error.to_string());
    let named = device::parse(&args.device).map_err(TrainError::from).map_err(input)?;
    let library = Library::new(Placement::new(&named.device, DType::F32));
    // The weights inside a folder of PEFT stand for it.
    let outer =
        |path: &PathBuf| path.parent().filter(|outer| path.is_file() && peft::is_folder(outer)).map(Path::to_owned);
    let adapter = args.adapter.as_ref().map(|path| outer(path).unwrap_or_else(|| path.clone()));
    let (plan, network) = match (&adapter, &args.model, &args.task) {
        (Some(folder), model, task) if peft::is_folder(folder) => {
            let purpose = task.as_ref().map(|task| Purpose {
                suite: glue::GLUE.to_owned(),
                data: None,
                task: task.clone(),
                given: None,
            });
            let request = peft::import::Request { folder, model: model.as_deref(), purpose };
            let imported = peft::import::import(&request, &library).map_err(input)?;
            imported.notes.iter().for_each(|line| note(line));
            (imported.card.plan, imported.network)
        }
        (Some(adapter), model, None) => {
            let path = if adapter.is_dir() { adapter.join("adapter.safetensors") } else { adapter.clone() };
            let (card, network) = adapter::load_on(&path, model.as_deref(), &library).map_err(input)?;
            (card.plan, network)
        }
        (None, Some(model), Some(task)) => predict::checkpoint(model, task, &library).map_err(input)?,
        (Some(_), _, Some(_)) => {
            return Err(Failure::Input("`--task` is the adapter's own; leave it out beside `--adapter`".to_owned()));
        }
        (None, ..) => {
            return Err(Failure::Input(
                "give a run with `--adapter`, or a fine-tuned checkpoint with `--model` and `--task`".to_owned(),
            ));
        }
    };
    let base = library.base(&plan.model).map_err(input)?;
    if plan.text().is_some() {
        return texts(args, &plan, &network, &library);
    }
    let info = info(&plan, &library).map_err(input)?;
    let rows = match (&args.data, &args.split) {
        (Some(file), None) => predict::rows(&plan, &info.objective, file).map_err(input)?,
        (None, Some(split)) => predict::split(&plan, split).map_err(input)?,
        _ => {
            return Err(Failure::Input(
                "give rows by `--data FILE`, or `--split NAME` of the run's own data".to_owned(),
            ));
        }
    };
    let found = predict::predict(&network, &base, &rows, plan.train.max_length).map_err(input)?;
    if let Some(out) = &args.out {
        write_atomic(out, &found.to_safetensors(&plan.task).map_err(input)?)?;
        note(&format!("wrote logits of {} rows to {}", rows.len(), out.display()));
    }
    if let Some(folder) = &args.submission {
        let split = args.split.as_deref().unwrap_or("test");
        let (name, bytes) = glue::submission(&plan.task, split, &predictions(&found.logits, &info.objective))
            .map_err(|error| Failure::Input(error.to_string()))?;
        create_folder(folder)?;
        write_atomic(&folder.join(&name), &bytes)?;
        note(&format!("wrote {}", folder.join(&name).display()));
    }
    score_known(&info, &found)
}

/// What is predicted and measured: of a user's own task its files say which classes there are.
fn info(plan: &CellPlan, library: &Library) -> Result<TaskInfo, TrainError> {
    match experiment::tasks::tasks(&plan.suite).into_iter().find(|info| info.name == plan.task) {
        Some(info) => Ok(info),
        None => Ok(library.task(plan)?.info.clone()),
    }
}

/// Prints the task's metrics where every label is known.
fn score_known(info: &TaskInfo, found: &Predicted) -> Result<(), Failure> {
    if found.labels.iter().any(|label| label.is_nan()) {
        note("labels are withheld, so nothing is scored");
        return Ok(());
    }
    let labels: Vec<f64> = found.labels.iter().map(|label| f64::from(*label)).collect();
    let predicted = predictions(&found.logits, &info.objective);
    let mut out = String::from("metric,value,examples\n");
    for metric in &info.metrics {
        out += &format!("{metric},{:.6},{}\n", metric.evaluate(&predicted, &labels), labels.len());
    }
    print(&out)
}

/// Texts for the prompts of a split, as JSON lines, and what they are worth.
fn texts(
    args: &Predict,
    plan: &CellPlan,
    network: &models::network::Network,
    library: &Library,
) -> Result<(), Failure> {
    let (task, base) = (library.task(plan)?, library.base(&plan.model)?);
    let wanted = args.split.as_deref().unwrap_or("dev");
    let Some(split) = task.splits.iter().chain(&task.test).find(|split| split.name == wanted) else {
        return Err(Failure::Input(format!("`{}` has no split `{wanted}`", plan.task)));
    };
    if split.prompts.is_empty() {
        return Err(Failure::Input(format!(
            "`{}` generates nothing: its metrics are {:?}; give it `bleu` or `exact_match`",
            plan.task,
            task.info.metrics.iter().map(ToString::to_string).collect::<Vec<_>>()
        )));
    }
    let reader = Reader { base: &base, plan, task: &task, generates: true };
    let found = reader.generate(network, split, &Active::All)?;
    if let Some(out) = &args.out {
        write_atomic(out, lines(&found, &split.references)?.as_bytes())?;
        note(&format!("wrote {} texts to {}", found.len(), out.display()));
    }
    let answer = plan.text().and_then(|task| task.answer.as_deref());
    let scored = score::of_texts(&task.info.metrics, answer, &found, &split.references)?;
    let rows: Vec<String> =
        scored.iter().map(|(metric, value)| format!("{metric},{value:.6},{}\n", found.len())).collect();
    print(&format!("metric,value,examples\n{}", rows.concat()))
}

fn lines(found: &[String], references: &[Vec<String>]) -> Result<String, Failure> {
    let line = |(text, references): (&String, &Vec<String>)| {
        Ok(serde_json::to_string(&serde_json::json!({"text": text, "references": references}))? + "\n")
    };
    found.iter().zip(references).map(line).collect()
}

/// A path that cannot be written is found before the work.
fn check(args: &Predict) -> Result<(), Failure> {
    for path in args.out.iter().chain(&args.submission) {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !parent.is_dir() {
            return Err(Failure::Input(format!("{}: its folder is not there; make it first", path.display())));
        }
    }
    Ok(())
}
