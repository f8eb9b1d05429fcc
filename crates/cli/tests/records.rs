//! Committed results are clean: every record names a commit whose code hashes to what the record says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn git(arguments: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("git").arg("-C").arg(root()).args(arguments).output().ok()?;
    output.status.success().then_some(output.stdout)
}

/// The code hash of a commit, from git's own objects.
fn hash_of(commit: &str) -> Option<String> {
    let list = git(&["ls-tree", "-r", "-z", "--name-only", commit, "--", "crates", "Cargo.toml", "Cargo.lock"])?;
    let list = String::from_utf8(list).ok()?;
    let paths: Vec<&str> = list.split('\0').filter(|path| record::is_code_path(path)).collect();
    let mut child = Command::new("git")
        .arg("-C")
        .arg(root())
        .args(["cat-file", "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut input = child.stdin.take()?;
    let asked: String = paths.iter().map(|path| format!("{commit}:{path}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(asked.as_bytes()));
    let output = child.wait_with_output().ok()?.stdout;
    writer.join().ok()?.ok()?;
    let (mut rest, mut files) = (output.as_slice(), Vec::new());
    for path in paths {
        let line = rest.iter().position(|byte| *byte == b'\n')?;
        let size: usize = std::str::from_utf8(&rest[..line]).ok()?.rsplit(' ').next()?.parse().ok()?;
        files.push((path, rest[line + 1..line + 1 + size].to_vec()));
        rest = &rest[line + 2 + size..];
    }
    Some(record::code_hash_of_listing(files))
}

/// Paths under results/: those of the last commit, since a run in the working tree is nobody's claim yet; in a source archive without
/// history, those that came with it.
fn committed() -> Vec<String> {
    let Some(list) = git(&["ls-tree", "-r", "-z", "--name-only", "HEAD", "--", "results"]) else { return unpacked() };
    let list = String::from_utf8(list).unwrap();
    let files: Vec<String> = list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    assert!(!files.is_empty(), "results/ has no committed file");
    files
}

/// Every file under results/.
fn unpacked() -> Vec<String> {
    let (mut folders, mut files) = (vec![root().join("results")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    files
}

fn content(path: &str) -> Vec<u8> {
    git(&["show", &format!("HEAD:{path}")]).unwrap_or_else(|| std::fs::read(root().join(path)).unwrap())
}

#[test]
#[cfg_attr(not(git_history), ignore = "needs the git history: a full clone, neither an archive nor a shallow clone")]
fn committed_records_name_the_code_that_made_them() {
    let files = committed();
    let mut hashes: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut records = 0;
    for file in files.iter().filter(|file| file.ends_with("/record.json")) {
        let record = record::RunRecord::from_json(&content(file)).unwrap_or_else(|reason| panic!("{file} {reason}"));
        let code = &record.code;
        assert!(!code.dirty, "{file}: made by uncommitted code");
        let hash = hashes.entry(code.commit.clone()).or_insert_with(|| hash_of(&code.commit));
        assert_eq!(hash.as_ref(), Some(&code.code_hash), "{file}: commit {}", code.commit);
        records += 1;
    }
    assert!(records > 0, "no record was found");
    println!("{records} records of {} commits", hashes.len());
}

/// A record whose plan is no longer that of its experiment would be trained again, and replaced.
#[test]
fn committed_records_have_the_plans_of_their_experiments() {
    let files = committed();
    let mut plans = 0;
    for name in experiments(&files) {
        let path = format!("experiments/{name}.yaml");
        let text = String::from_utf8(content(&path)).unwrap();
        let experiment = experiment::read(&text, &path, &name, &[]).unwrap();
        // The cells of a tuned experiment have the settings that its trials found.
        for cell in experiment.cells().iter().filter(|_| experiment.tune().is_none()) {
            let plan = trainer::study::identity::spec_of(cell);
            let file = format!("results/{name}/runs/{}/record.json", cell.id.slug());
            assert!(files.contains(&file), "{file} is not committed");
            let record = record::RunRecord::from_json(&content(&file)).unwrap();
            assert_eq!(record.spec_hash, record::spec_hash(&plan), "{file}: {} is planned as {plan}", record.spec);
            plans += 1;
        }
    }
    assert!(plans > 0, "no experiment has a record");
}

/// A fresh results folder with the committed files of one experiment that `keep`.
fn copied(files: &[String], experiment: &str, keep: &dyn Fn(&str) -> bool) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let own = files.iter().filter(|path| path.starts_with(&format!("results/{experiment}/")));
    for file in own.filter(|path| keep(path)) {
        let to = copy.path().join(file.strip_prefix("results/").unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, content(file)).unwrap();
    }
    copy
}

/// What `run` leaves, of which everything else is made: records, and what a tuning chose.
fn is_result(file: &str) -> bool {
    file.ends_with("/record.json") || file.ends_with("/tuned.json")
}

#[track_caller]
fn lora_lab(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_lora-lab")).current_dir(root()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Names of the experiments with committed results; `results/paper` has the claims about all of them.
fn experiments(files: &[String]) -> BTreeSet<String> {
    let name = |path: &String| path.split('/').nth(1).unwrap().to_owned();
    files.iter().map(name).filter(|name| name != "paper").collect()
}

#[test]
fn committed_tables_are_what_the_records_say() {
    let files = committed();
    for experiment in experiments(&files) {
        let copy = copied(&files, &experiment, &is_result);
        lora_lab(&["--results", &copy.path().display().to_string(), "table", &experiment]);
        let tables = format!("results/{experiment}/tables/");
        for table in files.iter().filter(|file| file.starts_with(&tables)) {
            let made = copy.path().join(table.strip_prefix("results/").unwrap());
            assert_eq!(
                String::from_utf8(content(table)).unwrap(),
                std::fs::read_to_string(&made).unwrap_or_default(),
                "{table} is not what `lora-lab table {experiment}` makes",
            );
        }
    }
}

#[test]
fn committed_figures_are_drawn_again_to_the_same_bytes() {
    let files = committed();
    for experiment in experiments(&files) {
        let figures = format!("results/{experiment}/figures/");
        if !files.iter().any(|file| file.starts_with(&figures)) {
            continue;
        }
        // As in a fresh clone: records, and descriptions of what needs the adapters.
        let described = |file: &str| Path::new(file).extension().is_some_and(|end| end == "json");
        let keep = |file: &str| is_result(file) || (file.starts_with(&figures) && described(file));
        let copy = copied(&files, &experiment, &keep);
        lora_lab(&["--results", &copy.path().display().to_string(), "figures", &experiment]);
        for figure in files.iter().filter(|file| file.starts_with(&figures)) {
            let made = std::fs::read(copy.path().join(figure.strip_prefix("results/").unwrap())).unwrap_or_default();
            assert!(content(figure) == made, "{figure} is not what `lora-lab figures {experiment}` draws");
        }
    }
}

#[test]
fn committed_claims_are_judged_again_alike() {
    let files = committed();
    assert!(files.iter().any(|file| file.starts_with("results/paper/")), "no claim is committed");
    let copy = tempfile::tempdir().unwrap();
    for file in files.iter().filter(|file| is_result(file) || file.contains("/analysis/")) {
        let to = copy.path().join(file.strip_prefix("results/").unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, content(file)).unwrap();
    }
    lora_lab(&["--results", &copy.path().display().to_string(), "claims"]);
    for file in files.iter().filter(|file| file.starts_with("results/paper/")) {
        let made =
            std::fs::read_to_string(copy.path().join(file.strip_prefix("results/").unwrap())).unwrap_or_default();
        assert_eq!(String::from_utf8(content(file)).unwrap(), made, "{file} is not what `lora-lab claims` says");
    }
}

#[test]
fn a_table_is_printed_where_it_cannot_be_written() {
    let folder = copied(&committed(), "dylora_glue", &is_result);
    std::fs::write(folder.path().join("dylora_glue/tables"), "in the way").unwrap();
    let experiment = root().join("experiments/dylora_glue.yaml");
    let output = Command::new(env!("CARGO_BIN_EXE_lora-lab"))
        .args(["--results", folder.path().to_str().unwrap(), "table", experiment.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("dylora_glue: One DyLoRA run of rank 8"), "{printed}");
    assert!(said.contains("tables"), "{said}");
}
