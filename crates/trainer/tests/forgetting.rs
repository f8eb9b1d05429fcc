//! What a run forgets: the base's own loss on held-out text, before and after.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

#[path = "support/study.rs"]
mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::DType;
use data::batch::{Encoded, EncodedSet};
use experiment::cell::{Cell, HeldOutText};
use models::{head::Head, network::Network};
use record::Forgetting;
use support::{cache, finish, store};
use trainer::{
    adapter, calibrate,
    error::TrainError,
    evaluate::language_model::likelihood,
    forgetting::{self, Measurement},
    pretrain::miniature::SHAPES,
    sink::Event,
    stop::Stop,
};
use variants::{
    pass::Active,
    preset,
    slot::{RunPlan, StackPlan},
};

fn bare() -> StackPlan {
    let variant = (preset::find("head_only").unwrap().spec)(0).check(None).unwrap();
    StackPlan::new(variant, vec![RunPlan { init_seed: 0, alpha: 1.0 }], BTreeSet::new())
}

/// Every preset of the registry on `sst2`, all of one rank but for those whose blocks it does not fit.
fn every_preset(overrides: &[&str]) -> Vec<Cell> {
    let entry = |name: &str| support::entry(name, &[&[3], &[4]]);
    let entries: Vec<String> = preset::all().iter().map(|preset| entry(preset.name)).collect();
    let yaml = format!(
        "suite: glue_mini\nmodel: mini_roberta\ntasks: [sst2]\nseeds: [0]\ntargets: [query, value]\n\
         measure: {{forgetting: {{documents: 40}}}}\ntrain: {{steps: 20, batch: 8, max_length: 64, learning_rate: 5e-3}}\nvariants: [{}]\n",
        entries.join(", ")
    );
    support::cells(&yaml, overrides)
}

fn forgotten(record: &record::RunRecord) -> &Forgetting {
    record.measured.forgetting.as_ref().unwrap_or_else(|| panic!("{} did not measure it", record.cell))
}

/// The last row of every embedded base's card, which its pretraining wrote: 8 batches of 512 documents. Its weights are in f16 since, and
/// its mean is one of batches; the card has three digits.
#[test]
fn before_is_the_held_out_loss_of_the_card() {
    for shape in SHAPES {
        let card = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/assets").join(shape.name).join("CARD.md");
        let card = fs::read_to_string(card).unwrap();
        let last = card.lines().rev().find(|line| line.starts_with("| ")).unwrap();
        let wanted: f64 = last.split('|').nth(2).unwrap().trim().parse().unwrap();
        let base = cache(DType::F32).base(shape.name).unwrap();
        let held_out = HeldOutText { text: None, documents: 8 * 512 };
        let found =
            Measurement::new(&held_out, shape.name, &base, Stop::NEVER).unwrap().before(&base, Stop::NEVER).unwrap();
        assert!((found - wanted).abs() < 2e-3, "{}: {found}, the card says {wanted}", shape.name);
    }
}

/// Making the documents takes minutes where there are many, and Ctrl-C is heard.
#[test]
fn who_asks_to_stop_is_heard_while_documents_are_made() {
    let base = cache(DType::F32).base("mini_roberta").unwrap();
    let asked = std::sync::atomic::AtomicBool::new(true);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "one line\nand another\n").unwrap();
    for text in [None, Some(file.path().display().to_string().into())] {
        let held_out = HeldOutText { text, documents: 4096 };
        let found = Measurement::new(&held_out, "mini_roberta", &base, Stop::on(&asked));
        assert!(matches!(found, Err(trainer::error::TrainError::Interrupted)));
    }
}

/// `B` is 0, or a start inside the base is what it took from it. Rounding enters where a weight is computed anew, and
/// where a run has copies of its own (`full`, `bitfit`), which are added by other operations.
#[test]
fn an_adapter_at_its_start_has_forgotten_nothing() {
    let (cells, cache) = (every_preset(&[]), cache(DType::F32));
    let base = cache.base("mini_roberta").unwrap();
    for cell in &cells {
        let measurement = cache.measurement(&cell.recipe, Stop::NEVER).unwrap().unwrap();
        let before = measurement.before(&base, Stop::NEVER).unwrap();
        let mut plan = adapter::stack_plan(&cell.recipe, &cell.id, &cache).unwrap();
        let taken = calibrate::statistics(&cell.recipe, &plan, &cache, Stop::NEVER).unwrap();
        plan.calibrations = taken.into_iter().map(Some).collect();
        let network = cache.network(&cell.recipe, &[(plan, vec![2])]).unwrap();
        let after = measurement.losses(&network, 1, Stop::NEVER).unwrap()[0];
        let exact = ["lora", "rslora", "lora_plus", "lora_fa", "head_only", "adalora", "vera", "dylora", "eva"];
        // VB-LoRA's bank starts near zero, and the base near where it was.
        let tolerance = match cell.id.variant.as_str() {
            variant if exact.contains(&variant) => 0.0,
            "vb_lora" => 1e-4,
            _ => 1e-5,
        };
        assert!((after - before).abs() <= tolerance && before > 0.1, "{}: {before} {after}", cell.id);
    }
}

/// The same loss by another way: every run's update is folded into the base, and the base's own passes are made.
#[test]
fn what_is_forgotten_is_the_loss_of_the_merged_model() {
    let (cells, root) = (every_preset(&["train.warmup=0.0"]), tempfile::tempdir().unwrap());
    let cache = cache(DType::F32);
    let measurement = cache.measurement(&cells[0].recipe, Stop::NEVER).unwrap().unwrap();
    for (cell, record) in cells.iter().zip(finish(&cells, root.path(), 1)) {
        let Forgetting { before, after, .. } = *forgotten(&record);
        let (_, network) = adapter::load(&store(root.path()).adapter_path(&cell.id), &cache).unwrap();
        if cell.recipe.variant.unmergeable().is_some() {
            assert!((after - before).abs() > 2e-6, "{}: {before} {after}", cell.id);
            continue;
        }
        let merged = network.merged(0, 0, &Active::All, &bare()).unwrap();
        let wanted = measurement.losses(&merged, 1, Stop::NEVER).unwrap()[0];
        assert!((after - wanted).abs() < 1e-4, "{}: {after}, merged {wanted}", cell.id);
        if cell.id.variant == "head_only" {
            assert_eq!(after, before, "a head is not part of the base");
        } else {
            // VeRA's vectors move little in so few steps.
            assert!((after - before).abs() > 2e-6, "{}: {before} {after}", cell.id);
        }
    }
}

/// Runs of one stack read the text in one pass, and a run's loss is not another's.
#[test]
fn a_cohort_measures_what_each_run_alone_does() {
    let yaml = "suite: glue_mini\nmodel: story_roberta_128\ntasks: [sst2, rte]\nseeds: [0, 1, 2]\ntargets: [query, value]\nranks: [2]\n\
                measure: {forgetting: {documents: 30}}\ntrain: {steps: 8, batch: 8, learning_rate: 1e-2}\nvariants: [lora, dylora]\n";
    let (cells, [alone, together]) = (support::cells(yaml, &[]), [(); 2].map(|()| tempfile::tempdir().unwrap()));
    let [one, many] = [finish(&cells, alone.path(), 1), finish(&cells, together.path(), 12)];
    assert_eq!(many[0].cohort.members.len(), 12);
    let mut seen: Vec<f64> = Vec::new();
    for (one, many) in one.iter().zip(&many) {
        let (one, many) = (forgotten(one).after, forgotten(many).after);
        // Eight steps at a large rate let the order of sums grow.
        assert!((one - many).abs() < 1e-3, "{one} {many}");
        assert!(seen.iter().all(|other| (other - one).abs() > 1e-5), "{seen:?} {one}");
        seen.push(one);
    }
}

/// The sum over a set of rows that perplexity is made of.
#[test]
fn a_decoder_predicts_every_token_after_the_first() {
    let root = tempfile::tempdir().unwrap();
    let model = support::write_decoder(root.path());
    let text = root.path().join("held_out.txt");
    fs::write(&text, "w5 w6 w7 w8\n\n  \nw9\nw10 w11 w12 w13 w14 w15\nw2 w3\n").unwrap();
    let held_out = HeldOutText { text: Some(text.display().to_string().into()), documents: 3 };
    let base = cache(DType::F32).base(&model).unwrap();
    let found = Measurement::new(&held_out, &model, &base, Stop::NEVER).unwrap();
    let row = |ids: &[u32]| Encoded::causal(ids.to_vec(), vec![true; ids.len()]);
    let set = EncodedSet::whole(vec![row(&[5, 6, 7, 8]), row(&[9]), row(&[10, 11, 12, 13, 14, 15])]);
    let mut network = Network::new(base.backbone.clone());
    network.attach(&bare(), Head::Causal).unwrap();
    let (sum, n) = likelihood(&network, &set, &Active::All, base.pad, Stop::NEVER).unwrap();
    assert_eq!((found.n_tokens(), n), (8, 8));
    let before = found.before(&base, Stop::NEVER).unwrap();
    assert!((before - sum / 8.0).abs() < 1e-6, "{before} {sum}");
}

#[track_caller]
fn refused(cell: &Cell, parts: &[&str]) {
    let message = forgetting::check(&cell.recipe).unwrap_err().to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    let root = tempfile::tempdir().unwrap();
    let started = |event: &Event<'_>| matches!(event, Event::Started { .. }).then(|| "started".to_owned());
    let (ended, said) = support::again(std::slice::from_ref(cell), root.path(), &started);
    assert_eq!(ended.unwrap_err().to_string(), message);
    assert!(said.is_empty(), "it began to train");
}

#[test]
fn what_cannot_be_measured_is_refused_before_training() {
    let root = tempfile::tempdir().unwrap();
    let bad = root.path().join("latin.txt");
    fs::write(&bad, b"one\n\xe9t\xe9\n").unwrap();
    let blank = root.path().join("blank.txt");
    fs::write(&blank, " \n\n").unwrap();
    let cell = |text: &Path| every_preset(&[&format!("measure.forgetting.text={}", text.display())]).remove(0);
    refused(&cell(&root.path().join("none.txt")), &["none.txt"]);
    refused(&cell(&bad), &["latin.txt", "line 2 is not UTF-8"]);
    refused(&cell(&blank), &["blank.txt", "no line has text"]);
    // An encoder that was saved with another head.
    let folder = root.path().join("headless");
    fs::create_dir(&folder).unwrap();
    let embedded = models::catalog::find("mini_roberta").unwrap();
    fs::write(folder.join("config.json"), embedded.config).unwrap();
    fs::write(folder.join("tokenizer.json"), embedded.tokenizer).unwrap();
    let config = models::config::Config::read(embedded.config).unwrap();
    let random = models::weights::Weights::random(&config.wanted(models::config::Purpose::Classify), 0);
    fs::write(folder.join("model.safetensors"), random.write_f16(str::to_owned).unwrap()).unwrap();
    fs::write(&blank, "the dog runs .\n").unwrap();
    let mut headless = cell(&blank);
    headless.recipe.model = folder.display().to_string().into();
    refused(&headless, &["headless", "lm_head.dense.weight", "is missing", "ForMaskedLM", "measure.forgetting"]);
}

#[test]
fn a_record_of_another_text_is_not_replaced_unasked() {
    let root = tempfile::tempdir().unwrap();
    let text = root.path().join("held_out.txt");
    fs::write(&text, "the dog runs .\nthe cat sleeps .\n").unwrap();
    let all = every_preset(&[&format!("measure.forgetting.text={}", text.display())]);
    let lora = all.into_iter().find(|cell| cell.id.variant == "lora");
    let cells = lora.as_slice();
    finish(cells, root.path(), 1);
    assert!(finish(cells, root.path(), 1)[0].measured.forgetting.is_some());
    fs::write(&text, "the dog sleeps .\n").unwrap();
    let ended = support::again(cells, root.path(), &support::of_cells).0;
    let Err(TrainError::WouldReplace { what, .. }) = &ended else { panic!("{ended:?}") };
    assert!(what.contains("its held-out text") && what.contains("held_out.txt"), "{what}");
}
