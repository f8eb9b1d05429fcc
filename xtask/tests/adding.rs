//! "One new file and one registry line": the files of `crates/variants/tests/fixtures/adding` are put into a copy of the workspace, with one
//! line each in the registry of their folder, and what was added is compiled and held against every law.
//!
//! The copy is built into this build's own target directory with the same command, so that only `kernels`, `variants` and what lies
//! between them are compiled again. Its crates lie one folder deeper than here, so that neither build takes the other's files for its own.
#![allow(clippy::disallowed_methods, reason = "fixtures are files")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A folder of the fixture, the registry in `crates/variants/src`, and the line that the file of that folder takes there.
const ADDED: [(&str, &str, &str); 7] = [
    ("presets/my_lora.rs", "presets! {", "my_lora"),
    ("delta/three_factors.rs", "deltas! {", "three_factors::ThreeFactors"),
    ("combine/rescaled.rs", "combines! {", "rescaled::Rescaled"),
    ("init/signs.rs", "inits! {", "signs::Signs"),
    ("rank/halving.rs", "rank_policies! {", "halving::Halving"),
    ("base_update/halfway.rs", "base_updates! {", "halfway::Halfway"),
    ("penalty/diagonal_square.rs", "penalties! {", "diagonal_square::DiagonalSquare"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn fixture() -> PathBuf {
    root().join("crates/variants/tests/fixtures/adding")
}

/// Sources and manifests of one crate, with the times of their files, by which cargo knows what it has compiled.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() && !["fixtures", "target"].iter().any(|left_out| path.ends_with(left_out)) {
            copy(&path, &target);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "toml") {
            fs::copy(&path, &target).unwrap();
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            fs::File::options().write(true).open(&target).unwrap().set_modified(time).unwrap();
        }
    }
}

/// The workspace's sources under `tree/tree`, with its manifest over them.
fn copy_workspace(tree: &Path) {
    if tree.exists() {
        fs::remove_dir_all(tree).unwrap();
    }
    for folder in ["crates", "examples", "xtask"] {
        copy(&root().join(folder), &tree.join("tree").join(folder));
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = ["crates/", "examples\"", "xtask\""];
    let deeper =
        members.iter().fold(manifest, |text, name| text.replace(&format!("\"{name}"), &format!("\"tree/{name}")));
    fs::write(tree.join("Cargo.toml"), deeper).unwrap();
    fs::copy(root().join("Cargo.lock"), tree.join("Cargo.lock")).unwrap();
}

#[test]
fn one_file_and_one_line_add_a_preset_or_a_mechanism() {
    // target/PROFILE/deps/THIS
    let program = std::env::current_exe().unwrap();
    let profile = program.ancestors().nth(2).unwrap();
    let target = profile.parent().unwrap();
    let tree = target.join("adding");
    copy_workspace(&tree);
    let variants = tree.join("tree/crates/variants");
    for (file, registry, line) in ADDED {
        let at = variants.join("src").join(file);
        assert!(!at.exists(), "`{file}` is there already; the fixture needs another name");
        fs::copy(fixture().join(file), &at).unwrap();
        let path = at.parent().unwrap().with_extension("rs");
        let text = fs::read_to_string(&path).unwrap();
        let opening = format!("\n{registry}\n");
        assert_eq!(text.matches(&opening).count(), 1, "{}: `{registry}`", path.display());
        fs::write(&path, text.replace(&opening, &format!("{opening}    {line},\n"))).unwrap();
    }
    fs::copy(fixture().join("tests/added.rs"), variants.join("tests/added.rs")).unwrap();

    let mut command = Command::new(env!("CARGO"));
    // `--workspace`, as `just test` has it: the features of dependencies are those of all crates together.
    command.args(["test", "--offline", "--workspace", "--test", "added"]).current_dir(&tree);
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let output = command.env("CARGO_TARGET_DIR", target).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{stderr}\n{stdout}");
    assert!(stdout.contains("every_law_holds_for_what_was_added ... ok"), "{stdout}");
}

/// What a document shows as an example of a preset is the file that was compiled above.
#[test]
fn the_documents_examples_are_the_fixture() {
    let example = fs::read_to_string(fixture().join("presets/my_lora.rs")).unwrap();
    let guide = root().join("docs");
    let mut documents = vec![root().join("README.md"), root().join("ARCHITECTURE.md")];
    let mut folders = vec![guide];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                documents.push(path);
            }
        }
    }
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let blocks = text.split("```rust").skip(1).filter_map(|rest| rest.split("```").next());
        for block in blocks.filter(|block| block.contains("pub const PRESET: Preset")) {
            assert_eq!(block.trim(), example.trim(), "{}", document.display());
        }
    }
}
