//! What a study leaves on disk, without what a clock says; and whether each file is whole.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use serde_json::Value;

use crate::scratch::Scratch;

/// Every file by its name below `results/grid`.
pub(crate) type Outcome = BTreeMap<String, Vec<u8>>;

/// The files below a folder, in order.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        // A process that still works may take a folder away in between.
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// What lies in a study's folder.
pub(crate) fn of(folder: &Path) -> Outcome {
    let name = |path: &Path| path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
    files(folder).into_iter().map(|path| (name(&path), timeless(&path))).collect()
}

/// What nothing disturbed, and how long each command took.
pub(crate) fn undisturbed() -> &'static (Outcome, [Duration; 3]) {
    static WHOLE: OnceLock<(Outcome, [Duration; 3])> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let scratch = Scratch::new();
        let took = scratch.finish();
        let outcome = of(&scratch.results());
        let kinds = ["adapter.safetensors", "record.json", "3.safetensors", "summary.csv", "main.tex", ".svg", ".png"];
        for kind in kinds {
            assert!(outcome.keys().any(|name| name.ends_with(kind)), "no {kind} in {:?}", outcome.keys());
        }
        assert_eq!(outcome.keys().filter(|name| name.ends_with("record.json")).count(), 12);
        whole(&scratch.results());
        (outcome, took)
    })
}

/// Holds a disturbed study's folder to the undisturbed one.
#[track_caller]
pub(crate) fn assert_same(folder: &Path, after: &str) {
    let (mut wanted, got) = (undisturbed().0.clone(), of(folder));
    // Where nobody drew figures.
    if !folder.join("figures").exists() {
        wanted.retain(|name, _| !name.starts_with("figures/") && !name.starts_with("analysis/"));
    }
    assert_equal(&wanted, &got, after);
    let left = fs::read_dir(folder.join(".partial")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "after {after}: unfinished work is left");
}

#[track_caller]
pub(crate) fn assert_equal(wanted: &Outcome, got: &Outcome, after: &str) {
    let (names, found): (Vec<_>, Vec<_>) = (wanted.keys().collect(), got.keys().collect());
    assert_eq!(names, found, "after {after}: files");
    for (name, bytes) in wanted {
        let (bytes, other) = (String::from_utf8_lossy(bytes), String::from_utf8_lossy(&got[name]));
        assert!(bytes == other, "after {after}: {name} has other bits\n{}", first_difference(&bytes, &other));
    }
}

fn first_difference(wanted: &str, got: &str) -> String {
    let at = wanted.chars().zip(got.chars()).take_while(|(one, other)| one == other).count();
    let part = |text: &str| text.chars().skip(at.saturating_sub(60)).take(160).collect::<String>();
    format!("undisturbed: ..{}..\nnow:         ..{}..", part(wanted), part(got))
}

/// Fields of a record, and columns of a table, that are measured by a clock or say how often a run was interrupted.
const CLOCKS: [&str; 7] =
    ["started", "finished", "resumed_at", "seconds_per_step", "tokens_per_second", "train_seconds", "eval_seconds"];

fn timeless(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    if name == "record.json" {
        let mut record: Value = serde_json::from_slice(&bytes).unwrap();
        without_clocks(&mut record);
        return record.to_string().into_bytes();
    }
    if name == "summary.csv" || name == "runs.csv" {
        let text = String::from_utf8(bytes).unwrap();
        let columns: Vec<&str> = text.lines().next().unwrap().split(',').collect();
        let kept = |(at, _): &(usize, &str)| !CLOCKS.contains(&columns[*at]);
        let line =
            |line: &str| line.split(',').enumerate().filter(kept).map(|(_, cell)| cell).collect::<Vec<_>>().join(",");
        return text.lines().map(line).collect::<Vec<_>>().join("\n").into_bytes();
    }
    match name.as_str() {
        "cost.md" => untimed_costs(&String::from_utf8(bytes).unwrap()).into_bytes(),
        // The same numbers in columns as wide as their times.
        "cost.txt" | "cost.tex" => Vec::new(),
        _ => bytes,
    }
}

/// The rows of the table of costs without their times, and without the notes, which say what trained at the same time.
fn untimed_costs(text: &str) -> String {
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let kept = |(at, _): &(usize, &&str)| !["ms/step", "tokens/s"].contains(&rows[0][*at]);
    let row =
        |row: &Vec<&str>| row.iter().enumerate().filter(kept).map(|(_, cell)| *cell).collect::<Vec<_>>().join("|");
    assert!(rows.len() > 2, "no table of costs: {text}");
    rows.iter().map(row).collect::<Vec<_>>().join("\n")
}

fn without_clocks(value: &mut Value) {
    let Some(fields) = value.as_object_mut() else { return };
    // The checksum covers the clocks; a run that is made again because its files are damaged is made without its former cohort.
    fields.retain(|name, _| !CLOCKS.contains(&name.as_str()) && name != "checksum" && name != "cohort");
    fields.values_mut().for_each(without_clocks);
}

/// Every file that stands where results are read from is whole: a reader who comes now sees no half of anything.
#[track_caller]
pub(crate) fn whole(folder: &Path) {
    for path in files(folder) {
        // Named as temporary, or as unfinished work, which no reader takes for a result.
        if path.extension().is_some_and(|end| end == "tmp") || path.starts_with(folder.join(".partial")) {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let end = |wanted: &[u8]| bytes.trim_ascii_end().ends_with(wanted);
        let complete = match path.extension().and_then(|end| end.to_str()).unwrap_or_default() {
            "safetensors" => is_whole_safetensors(&bytes),
            "json" => serde_json::from_slice::<Value>(&bytes).is_ok(),
            "svg" => end(b"</svg>"),
            "png" => end(b"IEND\xAE\x42\x60\x82"),
            "csv" | "md" | "tex" | "txt" => bytes.ends_with(b"\n"),
            _ => true,
        };
        assert!(complete, "{} is cut short: {} bytes", path.display(), bytes.len());
    }
}

fn is_whole_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return false };
    let Some((header, data)) = rest.split_at_checked(u64::from_le_bytes(*length) as usize) else { return false };
    let Ok(Value::Object(tensors)) = serde_json::from_slice(header) else { return false };
    tensors.values().filter_map(|tensor| tensor["data_offsets"][1].as_u64()).max() == Some(data.len() as u64)
}
