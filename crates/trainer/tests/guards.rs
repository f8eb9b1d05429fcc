//! Damage and silent errors, planted: each is noticed and said.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/study.rs"]
mod support;

use std::{
    fs,
    path::Path,
    sync::{Mutex, atomic::AtomicBool},
};

use burn::tensor::DType;
use experiment::cell::Cell;
use record::{RunRecord, Status, Truncated};
use support::{cache, cells, finish, run, store, tensors};
use trainer::{
    adapter,
    error::TrainError,
    guard::{BaseGuard, BaseTensors, OwnTensors},
    sink::{Event, Silent, Sink},
    study,
};
use variants::{host::inner, pass::Active};

const YAML: &str = "suite: glue_mini\nmodel: mini_roberta\ntasks: [rte]\nseeds: [0, 1]\ntargets: [query, value]\nranks: [2]\n\
train: {steps: 4, batch: 4, max_length: 64, checkpoint_every: 2, learning_rate: 1e-3}\nvariants: [lora]\n";

/// Runs cells once more; what is said of cells, files and cohorts that are begun again.
fn again(cells: &[Cell], root: &Path) -> (Result<Vec<RunRecord>, TrainError>, Vec<String>) {
    support::again(cells, root, &|event| match event {
        Event::Restarted { reason, .. } => Some(format!("restarted: {reason}")),
        other => support::of_cells(other),
    })
}

#[test]
fn an_adapter_that_is_not_its_runs_is_trained_again() {
    let cells = cells(YAML, &[]);
    let root = tempfile::tempdir().unwrap();
    finish(&cells, root.path(), 2);
    let path = |seed: usize| store(root.path()).adapter_path(&cells[seed].id);
    let whole = [0, 1].map(|seed| fs::read(path(seed)).unwrap());
    let mut flipped = whole[0].clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (damaged, reason) in [
        (Vec::new(), "has 0 bytes"),
        (whole[0][..5000].to_vec(), "has 5000 bytes"),
        (flipped, "is not the file that its run saved"),
        (whole[1].clone(), "its run saved"),
    ] {
        fs::write(path(0), &damaged).unwrap();
        // A table looks at its length alone; whoever reads it is told in any case.
        let records = study::records(&cells, &store(root.path())).unwrap();
        let altered = study::altered(&records, &store(root.path()));
        assert_eq!(altered, if damaged.len() == whole[0].len() { vec![] } else { vec![path(0)] });
        let message = adapter::load(&path(0), &cache(DType::F32)).unwrap_err().to_string();
        assert!(message.contains("adapter.safetensors"), "{message}");
        if damaged == whole[1] {
            assert!(message.contains("is the adapter of rte/lora rank 2 seed 1"), "{message}");
        }
        let (records, said) = again(&cells, root.path());
        assert_eq!(records.unwrap().len(), 2);
        assert!(said.len() == 1 && said[0].contains("seed 0: ") && said[0].contains(reason), "{said:?}");
        assert_eq!(fs::read(path(0)).unwrap(), whole[0]);
    }
    assert_eq!(again(&cells, root.path()).1, [""; 0], "nothing is left to say");
}

#[test]
fn a_torn_record_is_made_again_and_an_edited_one_is_refused() {
    let cells = cells(YAML, &[]);
    let root = tempfile::tempdir().unwrap();
    finish(&cells, root.path(), 2);
    let path = store(root.path()).record_path(&cells[0].id);
    let text = fs::read_to_string(&path).unwrap();
    for torn in ["", &text[..text.len() / 2], &"\0".repeat(64)] {
        fs::write(&path, torn).unwrap();
        let read = study::records(&cells, &store(root.path())).unwrap_err().to_string();
        assert!(read.contains("record.json"), "{read}");
        assert!(study::replaced(&cells, &store(root.path())).unwrap().is_empty());
        let (records, said) = again(&cells, root.path());
        assert_eq!(records.unwrap().len(), 2);
        assert!(said.len() == 1 && said[0].contains("record.json ends too early"), "{said:?}");
    }
    // With a checksum any edit is noticed, its loss too; without one, as in an earlier build's record, which has no hash of its adapter
    // either, a value that no metric can take is.
    let mut value: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for evaluation in value["evaluations"].as_array_mut().unwrap() {
        evaluation["metrics"]["accuracy"] = 17.0.into();
    }
    for (wanted, has_checksum) in [("checksum", true), ("`accuracy` on `dev` is 17, which it cannot be", false)] {
        if !has_checksum {
            value.as_object_mut().unwrap().retain(|name, _| name != "checksum" && name != "adapter_hash");
        }
        fs::write(&path, value.to_string()).unwrap();
        let message = study::records(&cells, &store(root.path())).unwrap_err().to_string();
        assert!(message.contains("record.json: ") && message.contains(wanted), "{message}");
    }
}

#[test]
fn a_run_that_does_not_move_has_failed() {
    let mut cells = cells(YAML, &[]);
    cells[0].recipe.train.learning_rate = 1e-300; // 0 in the numbers' precision
    let root = tempfile::tempdir().unwrap();
    let records = finish(&cells, root.path(), 2);
    let Status::Failed { step: 4, reason } = &records[0].status else { panic!("{:?}", records[0].status) };
    assert!(reason.starts_with("no tensor that trains has moved"), "{reason}");
    assert_eq!((&records[1].status, records[1].unmoved.len()), (&Status::Finished, 0));
}

/// The miniature with zeros in place of one tensor.
fn miniature_without(tensor: &str, folder: &Path) -> String {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/assets/mini_roberta");
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(from.join(name), folder.join(name)).unwrap();
    }
    let mut bytes = fs::read(from.join("model.safetensors")).unwrap();
    let (start, length) = {
        let all = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let data = all.tensor(tensor).unwrap().data();
        (data.as_ptr().addr() - bytes.as_ptr().addr(), data.len())
    };
    bytes[start..start + length].fill(0);
    fs::write(folder.join("model.safetensors"), bytes).unwrap();
    folder.display().to_string()
}

#[test]
fn a_single_map_that_does_not_move_is_named() {
    // Nothing that the attention of this layer computes reaches the loss.
    let base = tempfile::tempdir().unwrap();
    let base = miniature_without("roberta.encoder.layer.2.attention.output.dense.weight", base.path());
    let budget = "{target_rank: 1, initial_steps: 1, final_steps: 1, interval: 1}";
    let variants = format!("variants=[lora, {{preset: adalora, with: {{rank_policy: {budget}}}}}]");
    let cells = cells(&YAML.replace("mini_roberta", &base), &[&variants, "seeds=[0]"]);
    let root = tempfile::tempdir().unwrap();
    for record in finish(&cells, root.path(), 2) {
        assert_eq!(record.status, Status::Finished);
        let still = ["query", "value"].map(|map| format!("encoder.layer.2.attention.self.{map}"));
        // Weight decay shrinks A, and AdaLoRA's penalty moves both factors: neither is learning. What its budget left without a
        // component is no map any more.
        let is_left = |map: &&String| record.measured.final_ranks[*map] > 0;
        let wanted: Vec<&String> = still.iter().filter(is_left).collect();
        assert!(record.cell.variant == "adalora" || wanted.len() == 2, "{:?}", record.measured.final_ranks);
        assert_eq!(record.unmoved.iter().collect::<Vec<_>>(), wanted, "{}", record.cell);
        let note = "`encoder.layer.2.attention.self.query` and 1 more did not move in training";
        assert!(wanted.len() < 2 || record.note_unmoved().as_deref() == Some(note), "{:?}", record.note_unmoved());
    }
}

#[test]
fn a_frozen_tensor_that_changes_is_noticed() {
    let yaml = YAML.replace("[lora]", "[lora_fa]");
    let cells = cells(&yaml, &[]);
    let root = tempfile::tempdir().unwrap();
    finish(&cells, root.path(), 1);
    let path = store(root.path()).adapter_path(&cells[0].id);
    let (_, mut network) = adapter::load(&path, &cache(DType::F32)).unwrap();
    let roles = cells[0].recipe.variant.train.clone();
    let at = [0, 0];
    let (own, base) = (OwnTensors::of(&mut network, at, None, &roles), BaseTensors::of(&network));
    assert_eq!((own.thawed(&own), own.unmoved(&own).0.len()), (None, own.unmoved(&own).1));
    base.check(&BaseTensors::of(&network)).unwrap();
    // The run's own frozen tensors.
    for mut named in network.parameters(0).into_iter().filter(|named| !roles.trains(named.param.role)) {
        named.param.tensor.set(inner(&named.param.tensor) * 1.001);
    }
    let now = OwnTensors::of(&mut network, at, None, &roles);
    assert!(now.thawed(&own).unwrap().ends_with("query"), "{:?}", now.thawed(&own));
    assert_eq!(now.unmoved(&own).0.len(), own.unmoved(&own).1, "what trains is as it was");
    // And the base, into which an update is folded here.
    network.backbone.merge(0, 0, &Active::All);
    let message = base.check(&BaseTensors::of(&network)).unwrap_err().to_string();
    assert!(message.contains("query.weight` of the frozen base changed"), "{message}");
    // In passing a base is looked at as long as looks are rare; before the first look none is too soon.
    let mut guard = BaseGuard::new(base);
    guard.check_in_passing(&network).unwrap_err();
    guard.check_in_passing(&network).expect("the look before has just ended");
    guard.check(&network).unwrap_err();
}

/// A table of texts with a label, as a task of one's own.
fn custom(folder: &Path, dev: &str) -> String {
    let train: String = (0..8).map(|n| format!("the dog runs {n},{}\n", ["neg", "pos"][n % 2])).collect();
    fs::write(folder.join("train.csv"), format!("sentence,mood\n{train}")).unwrap();
    fs::write(folder.join("dev.csv"), format!("sentence,mood\n{dev}")).unwrap();
    format!(
        "suite: own\ndata: {}\nmodel: mini_roberta\nseeds: [0]\ntargets: [query]\nranks: [2]\n\
         tasks: [{{task: {{name: mood, train: train.csv, dev: dev.csv, text: sentence, label: mood, metrics: [matthews, f1]}}}}]\n\
         train: {{steps: 2, batch: 4, learning_rate: 1e-3}}\nvariants: [lora]\n",
        folder.display()
    )
}

#[test]
fn a_metric_that_its_split_leaves_undefined_says_why() {
    let (data, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cells = cells(&custom(data.path(), "a cat,neg\nthe cat sees,neg\n"), &[]);
    let record = finish(&cells, root.path(), 1).remove(0);
    let evaluation = &record.evaluations[0];
    assert!(evaluation.metrics["matthews"].is_nan() && evaluation.metrics["f1"].is_nan());
    assert_eq!(evaluation.undefined["matthews"], "every label is `neg`");
    assert_eq!(evaluation.undefined["f1"], "no label is `pos`");
}

#[test]
fn truncated_texts_and_batches_beyond_the_data_are_said() {
    let (data, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let yaml = custom(data.path(), "cat,neg\nthe cat sees a big house,pos\n");
    let cells = cells(&yaml, &["train.max_length=4", "train.batch=9"]);
    let record = finish(&cells, root.path(), 1).remove(0);
    assert_eq!(record.truncated["train"], Truncated { texts: 8, of: 8 });
    assert_eq!(record.truncated["dev"], Truncated { texts: 1, of: 2 });
    let task = cache(DType::F32).task(&cells[0].recipe).unwrap();
    let wanted = "mood, dev: train.max_length, 4 tokens, cuts 1 of 2 texts (50%)";
    assert!(task.notes.iter().any(|note| note == wanted), "{:?}", task.notes);
    let remarks = study::remarks(&cells[0].recipe, &task);
    assert!(
        remarks.len() == 1 && remarks[0].contains("train.batch is 9, but there are 8 training examples"),
        "{remarks:?}"
    );
}

/// A device whose memory takes so many runs at once: it says so as LibTorch does.
struct Full {
    takes: usize,
    halved: Mutex<Vec<usize>>,
}

impl Sink for Full {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Started { cells, .. } if cells.len() > self.takes => {
                panic!("Torch(\"CUDA out of memory. Tried to allocate 2.00 GiB. (planted)\")")
            }
            Event::Halved { runs } => self.halved.lock().unwrap().push(*runs),
            _ => {}
        }
    }
}

#[test]
fn a_cohort_that_a_device_does_not_take_is_halved() {
    let cells = cells(YAML, &["seeds=[0,1,2,3,4]"]);
    let (root, alone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let wanted = finish(&cells, alone.path(), 1);
    let full = |takes| Full { takes, halved: Mutex::default() };
    let device = full(2);
    let records = run(&cache(DType::F32), &cells, root.path(), 5, &AtomicBool::new(false), &device).unwrap();
    assert_eq!(*device.halved.lock().unwrap(), [5, 3]);
    for ((cell, got), wanted) in cells.iter().zip(&records).zip(&wanted) {
        assert!(got.is_finished() && got.cohort.members.len() <= 2, "{:?}", got.cohort);
        let last = got.cohort.changes.last().unwrap();
        assert_eq!((last.step, last.reason.as_str(), &last.members), (0, "out of memory", &got.cohort.members));
        assert!(wanted.cohort.changes.is_empty());
        let (got, mut apart, mut size) = (tensors(cell, root.path()), 0.0, 0.0);
        for (name, wanted) in tensors(cell, alone.path()) {
            for (a, b) in got[&name].iter().zip(&wanted) {
                (apart, size) = (apart + (a - b).powi(2), size + b.powi(2));
            }
        }
        // As for companions in a cohort (crates/cli/tests/determinism.rs): products of other sizes sum in another order.
        assert!(apart.sqrt() <= 1e-5 * size.sqrt(), "{}: {} apart, of {}", cell.id, apart.sqrt(), size.sqrt());
    }
    // One run alone that does not fit is an error with the way out, and no panic.
    let root = tempfile::tempdir().unwrap();
    let error = run(&cache(DType::F32), &cells, root.path(), 5, &AtomicBool::new(false), &full(0)).unwrap_err();
    assert!(error.to_string().contains("`rte/lora rank 2 seed 0` alone"), "{error}");
}

#[test]
fn more_workers_than_cohorts_are_no_more_threads() {
    let cells = cells(YAML, &["train.steps=1"]);
    let root = tempfile::tempdir().unwrap();
    let (cache, store) = (cache(DType::F32), store(root.path()));
    let code = record::CodeIdentity { code_hash: "test".into(), commit: "test".into(), dirty: true };
    let context = study::context::StudyContext {
        cache: &cache,
        store: &store,
        code: &code,
        versions: &std::collections::BTreeMap::new(),
        device: "flex",
        cohort: Some(1),
        workers: usize::MAX,
        among: 1,
        stays: true,
        lease: None,
        keeps_records: false,
        stop: trainer::stop::Stop::NEVER,
    };
    study::run(&cells, &context, &Silent).unwrap();
    assert_eq!(study::records(&cells, &store).unwrap().len(), 2);
}
