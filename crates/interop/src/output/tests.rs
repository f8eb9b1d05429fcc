//! What may be written, and what may not.

use super::*;
use std::path::PathBuf;

fn write(target: &Path, text: &str) -> Result<(), TrainError> {
    let mut staged = OutputDir::check(target, "test", &Guard::default())?.begin()?;
    staged.write("a.txt", text.as_bytes())?;
    staged.finish(serde_json::Value::Null)
}

fn names(folder: &Path) -> Vec<String> {
    let mut all: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

#[test]
fn only_its_own_output_is_replaced() {
    let root = tempfile::tempdir().unwrap();
    let target = root.path().join("deep/out");
    write(&target, "one").unwrap();
    write(&target, "two").unwrap();
    assert_eq!(fs::read(target.join("a.txt")).unwrap(), b"two");
    assert_eq!(names(&target), ["a.txt", ORIGIN]);
    let error = OutputDir::check(&target, "other", &Guard::default()).unwrap_err().to_string();
    assert!(error.contains("not an earlier output of `other`"), "{error}");
    fs::write(target.join("mine.txt"), "mine").unwrap();
    let error = write(&target, "three").unwrap_err().to_string();
    assert!(error.contains("`mine.txt`") && error.contains("would delete"), "{error}");
    assert_eq!(fs::read(target.join("a.txt")).unwrap(), b"two");
    for (target, part) in [(root.path().join("deep/out/a.txt"), "is a file"), (PathBuf::from(".."), "no name")] {
        let error = OutputDir::check(&target, "test", &Guard::default()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_file_that_comes_during_the_work_stays() {
    let root = tempfile::tempdir().unwrap();
    let target = root.path().join("out");
    write(&target, "one").unwrap();
    let mut staged = OutputDir::check(&target, "test", &Guard::default()).unwrap().begin().unwrap();
    staged.write("a.txt", b"two").unwrap();
    fs::write(target.join("mine.txt"), "mine").unwrap();
    let error = staged.finish(serde_json::Value::Null).unwrap_err().to_string();
    assert!(error.contains("`mine.txt`") && error.contains("came during the work"), "{error}");
    assert_eq!(names(&target), ["a.txt", ORIGIN, "mine.txt"]);
    assert_eq!(fs::read(target.join("a.txt")).unwrap(), b"one");
    assert_eq!(names(root.path()), ["out"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_a_folders_origin_is_not_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let target = root.path().join("out");
    fs::create_dir(&target).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(target.join(ORIGIN)).status().unwrap().success());
    let error = OutputDir::check(&target, "test", &Guard::default()).unwrap_err().to_string();
    assert!(error.contains("not an earlier output of `test`"), "{error}");
}

#[test]
fn a_path_that_goes_up_from_what_is_not_there_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let input = root.path().join("input");
    fs::create_dir(&input).unwrap();
    let guard = Guard::new([&input], true);
    let error = OutputDir::check(&root.path().join("new/../input"), "test", &guard).unwrap_err().to_string();
    assert!(error.contains("goes up (`..`)"), "{error}");
    fs::create_dir(root.path().join("new")).unwrap();
    let error = OutputDir::check(&root.path().join("new/../input"), "test", &guard).unwrap_err().to_string();
    assert!(error.contains("is or holds an input"), "{error}");
}

#[test]
fn what_is_given_up_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let target = root.path().join("out");
    let mut staged = OutputDir::check(&target, "test", &Guard::default()).unwrap().begin().unwrap();
    staged.write("a.txt", b"half").unwrap();
    drop(staged);
    assert!(names(root.path()).is_empty());
}

fn file(target: &Path, guard: &Guard) -> Result<OutputFile, String> {
    OutputFile::check(target, guard, &|head| head.starts_with(b"own,")).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(target: &Path, guard: &Guard, part: &str) {
    for found in [file(target, guard).map(drop), folder(target, guard).map(drop)] {
        let error = found.unwrap_err();
        assert!(error.contains(part) && error.contains(&target.display().to_string()), "no `{part}` in {error}");
    }
}

fn folder(target: &Path, guard: &Guard) -> Result<OutputDir, String> {
    OutputDir::check(target, "test", guard).map_err(|error| error.to_string())
}

#[test]
fn files_that_something_else_wrote_are_replaced_by_force_alone() {
    let root = tempfile::tempdir().unwrap();
    let (free, forced) = (Guard::default(), Guard::new([""; 0], true));
    let target = root.path().join("table.csv");
    for text in ["own,1", "own,2"] {
        file(&target, &free).unwrap().write(text.as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), text);
    }
    fs::write(&target, "mine").unwrap();
    let error = file(&target, &free).unwrap_err();
    assert!(error.contains("not an earlier output of this command") && error.contains("`--force`"), "{error}");
    file(&target, &forced).unwrap().write(b"own,3").unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"own,3");
    assert!(file(root.path(), &forced).unwrap_err().contains("is a folder"));
    assert!(file(&root.path().join("no/such.csv"), &free).unwrap_err().contains("its folder does not exist"));
}

/// Forced, a folder of others gets the new files and keeps its own; the list of files is of the new ones.
#[test]
fn a_forced_folder_keeps_what_has_another_name() {
    let root = tempfile::tempdir().unwrap();
    let target = root.path().join("out");
    fs::create_dir(&target).unwrap();
    for name in ["mine.txt", "a.txt"] {
        fs::write(target.join(name), "mine").unwrap();
    }
    assert!(folder(&target, &Guard::default()).unwrap_err().contains("`--force`"));
    let mut staged = folder(&target, &Guard::new([""; 0], true)).unwrap().begin().unwrap();
    staged.write("a.txt", b"new").unwrap();
    staged.finish(serde_json::Value::Null).unwrap();
    let read = |name: &str| fs::read_to_string(target.join(name)).unwrap();
    assert_eq!((read("a.txt").as_str(), read("mine.txt").as_str()), ("new", "mine"));
    let origin: serde_json::Value = serde_json::from_str(&read(ORIGIN)).unwrap();
    assert_eq!(origin["files"], serde_json::json!(["a.txt"]));
    assert_eq!(names(root.path()), ["out"]);
}

#[test]
fn inputs_and_runs_are_never_outputs() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    fs::create_dir_all(at("adapter")).unwrap();
    fs::write(at("adapter/adapter_config.json"), "{}").unwrap();
    fs::write(at("rows.csv"), "own,").unwrap();
    for force in [false, true] {
        let guard = Guard::new([at("adapter"), at("rows.csv"), PathBuf::from("mini_roberta")], force);
        assert!(file(&at("rows.csv"), &guard).unwrap_err().contains("input of this command"));
        assert!(file(&at("adapter/adapter_config.json"), &guard).unwrap_err().contains("input of this command"));
        assert!(file(&at("adapter/new.csv"), &guard).is_ok());
        assert!(folder(&at("new"), &guard).is_ok());
    }
    // The earlier output of the same command is no output of one that reads it; nor is a folder that holds an input.
    write(&at("own"), "one").unwrap();
    for (input, target) in [("own", "own"), ("own/a.txt", "own")] {
        let error = folder(&at(target), &Guard::new([at(input)], true)).unwrap_err();
        assert!(error.contains("is or holds an input"), "{error}");
    }
    let run = at("results/study/runs/cola-lora-r8-s0");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("record.json"), "own,").unwrap();
    for target in [run.clone(), run.join("record.json"), at("results/study/runs/new"), run.join("deep/new")] {
        refused(&target, &Guard::new([""; 0], true), "has the runs of an experiment");
    }
    assert_eq!(fs::read(run.join("record.json")).unwrap(), b"own,");
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_devices_refused() {
    use std::os::unix::{fs::symlink, net::UnixListener};
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    let _socket = UnixListener::bind(at("socket")).unwrap();
    symlink(at("socket"), at("to_socket")).unwrap();
    for target in [PathBuf::from("/dev/null"), at("socket"), at("to_socket")] {
        refused(&target, &Guard::new([""; 0], true), "is a device, a pipe or a socket");
    }
    // A file, a folder and nothing at the end of a link, which stays one.
    fs::create_dir(at("there")).unwrap();
    fs::write(at("there/table.csv"), "own,1").unwrap();
    symlink("there/table.csv", at("table")).unwrap();
    symlink("table", at("twice")).unwrap();
    symlink("there/new.csv", at("new")).unwrap();
    symlink("there", at("folder")).unwrap();
    for (link, real) in [("twice", "there/table.csv"), ("new", "there/new.csv")] {
        file(&at(link), &Guard::default()).unwrap().write(b"own,2").unwrap();
        assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link}");
        assert_eq!(fs::read(at(real)).unwrap(), b"own,2");
    }
    fs::remove_dir_all(at("there")).unwrap();
    fs::create_dir(at("there")).unwrap();
    write(&at("folder"), "one").unwrap();
    assert!(fs::symlink_metadata(at("folder")).unwrap().is_symlink());
    assert_eq!(fs::read(at("there/a.txt")).unwrap(), b"one");
    // An input is one under its other name too.
    let guard = Guard::new([at("there")], true);
    assert!(folder(&at("folder"), &guard).unwrap_err().contains("is or holds an input"));
    symlink("round", at("round")).unwrap();
    refused(&at("round"), &Guard::default(), "link in a circle");
}

#[test]
fn what_was_changed_since_is_not_replaced() {
    let root = tempfile::tempdir().unwrap();
    let target = root.path().join("out");
    write(&target, "one").unwrap();
    fs::write(target.join("a.txt"), "trained").unwrap();
    let error = write(&target, "two").unwrap_err().to_string();
    assert!(error.contains("has a `a.txt` that is not what `test` wrote") && error.contains("--force"), "{error}");
    assert_eq!(fs::read(target.join("a.txt")).unwrap(), b"trained");
    assert!(changed(&target, "a.txt", b"trained").is_some_and(|note| note.contains("wrote other bytes")));
    assert_eq!(changed(&target, "a.txt", b"one"), None);
    // A file that was deleted is no loss, and an output of an earlier build has no checksums.
    fs::remove_file(target.join("a.txt")).unwrap();
    write(&target, "three").unwrap();
    let origin = r#"{"written_by": "test", "files": ["a.txt"], "from": null}"#;
    fs::write(target.join(ORIGIN), origin).unwrap();
    fs::write(target.join("a.txt"), "any").unwrap();
    write(&target, "four").unwrap();
}

/// Process 4294967295 is nobody's; this machine's name is in the mark of this process.
#[test]
fn what_killed_processes_left_goes_and_what_they_moved_aside_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let target = root.path().join("out");
    let mark = record::process_mark();
    let parts: Vec<&str> = mark.split('-').collect();
    let dead = format!("{}-4294967295-{}-0", parts[0], parts[2]);
    let hidden = |what: &str, mark: &str| root.path().join(format!(".out.{what}.{mark}.tmp"));
    write(&target, "one").unwrap();
    fs::rename(&target, hidden("old", &dead)).unwrap();
    fs::create_dir(hidden("new", &dead)).unwrap();
    fs::create_dir(hidden("new", &mark)).unwrap();
    OutputDir::check(&target, "test", &Guard::default()).unwrap();
    assert_eq!(fs::read(target.join("a.txt")).unwrap(), b"one");
    assert_eq!(names(root.path()), [format!(".out.new.{mark}.tmp"), "out".to_owned()], "the living keep theirs");
    fs::create_dir(hidden("old", &dead)).unwrap();
    write(&target, "two").unwrap();
    assert_eq!(names(root.path()).len(), 2);
}
