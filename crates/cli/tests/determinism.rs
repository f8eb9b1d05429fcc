//! The same command gives the same bits on one machine (CPU), whatever the number of threads and of workers; and the same result within
//! the tolerance of f32 whatever the size of its cohort and whoever else is in it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Methods that draw: dropout masks, ranks, a random pair; and one that takes components away.
const VARIANTS: [&str; 4] = [
    "{preset: lora, with: {dropout: 0.1}}",
    "dylora",
    "{preset: adalora, with: {rank_policy: {target_rank: 1, initial_steps: 1, final_steps: 1, interval: 1}}}",
    "vera",
];

/// How a study is run.
#[derive(Clone, Copy, Debug)]
struct Way {
    threads: usize,
    workers: usize,
    cohort: usize,
    /// The first ones of [`VARIANTS`].
    variants: usize,
}

const PLAIN: Way = Way { threads: 2, workers: 1, cohort: 3, variants: 4 };

/// What a study leaves: adapters by their cells, and tables without the columns of a clock.
struct Left {
    adapters: BTreeMap<String, Vec<u8>>,
    tables: BTreeMap<String, String>,
}

fn run(way: Way) -> Left {
    let folder = tempfile::tempdir().unwrap();
    let variants = VARIANTS[..way.variants].join(", ");
    let yaml = format!(
        "# Determinism.\nsuite: glue_mini\nmodel: mini_roberta\ntasks: [rte]\nseeds: [0, 1]\ntargets: [query, value]\nranks: [2]\n\
         cohort: {}\ntrain: {{steps: 6, batch: 4, learning_rate: 1e-3, backbone_dropout: 0.1}}\nvariants: [{variants}]\nbaseline: lora\n",
        way.cohort
    );
    fs::write(folder.path().join("grid.yaml"), yaml).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_lora-lab"))
        .current_dir(folder.path())
        .args(["run", "grid.yaml", "--workers", &way.workers.to_string()])
        .env("RAYON_NUM_THREADS", way.threads.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{way:?}: {status}");
    let results = folder.path().join("results/grid");
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let paths = |folder: &str| fs::read_dir(results.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let adapter = |path: &Path| fs::read(path.join("adapter.safetensors")).unwrap();
    Left {
        adapters: paths("runs").map(|path| (name(&path), adapter(&path))).collect(),
        tables: paths("tables")
            // These hold what was measured in seconds.
            .filter(|path| {
                !["summary.csv", "runs.csv"].contains(&name(path).as_str()) && !name(path).starts_with("cost.")
            })
            .map(|path| (name(&path), fs::read_to_string(&path).unwrap()))
            .collect(),
    }
}

#[test]
fn threads_and_workers_change_no_bit() {
    let wanted = run(PLAIN);
    assert_eq!((wanted.adapters.len(), wanted.tables.contains_key("main.txt")), (8, true));
    for (threads, workers) in [(1, 1), (1, 3), (3, 2), (4, 8)] {
        let way = Way { threads, workers, ..PLAIN };
        let got = run(way);
        for (cell, bytes) in &wanted.adapters {
            assert!(*bytes == got.adapters[cell], "{way:?}: the adapter of {cell} has other bits");
        }
        assert_eq!(wanted.tables, got.tables, "{way:?}");
    }
}

#[test]
fn companions_change_no_result() {
    let wanted = run(PLAIN);
    let ways = [
        Way { cohort: 1, ..PLAIN },
        Way { cohort: 2, threads: 1, ..PLAIN },
        Way { cohort: 8, workers: 2, ..PLAIN },
        Way { variants: 2, ..PLAIN },
    ];
    for way in ways {
        let got = run(way);
        assert_eq!(got.adapters.len(), 2 * way.variants);
        for (cell, bytes) in &got.adapters {
            let (apart, size) = apart(&wanted.adapters[cell], bytes);
            // Rows of other lengths and other blocks of the products reorder sums of f32: 4e-8 is seen. Adam may turn what that does to a
            // vanishing gradient into a larger step.
            assert!(apart <= 1e-5 * size, "{way:?}: {cell} is {apart} apart, of {size}");
        }
    }
}

/// Euclidean distance of two adapters' numbers, and the size of the first.
fn apart(one: &[u8], other: &[u8]) -> (f64, f64) {
    let (one, other) = (tensors(one), tensors(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    let (mut apart, mut size) = (0.0, 0.0);
    for (name, values) in &one {
        for (a, b) in values.iter().zip(&other[name]) {
            apart += (a - b).powi(2);
            size += a.powi(2);
        }
    }
    (f64::sqrt(apart), f64::sqrt(size))
}

fn tensors(bytes: &[u8]) -> BTreeMap<String, Vec<f64>> {
    let file = models::safetensors::read(bytes).unwrap();
    file.tensors.iter().map(|(name, view)| (name.clone(), models::safetensors::as_f64(view).unwrap())).collect()
}
