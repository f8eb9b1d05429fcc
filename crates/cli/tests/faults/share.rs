//! One experiment and two processes; a results folder that nobody may write to.

use std::{fs, process::Command};

use crate::{
    outcome::{assert_same, files},
    scratch::{Scratch, failed_well, said},
};

#[test]
fn a_second_process_is_refused_while_the_first_lives() {
    let scratch = Scratch::new();
    let mut first = scratch.at_checkpoint();
    let second = scratch.output("run");
    failed_well(&second, &[1]);
    let holder = format!("another process trains this experiment (process {} on ", first.id());
    assert!(said(&second).contains(&holder), "{}", said(&second));
    // Nor may the second take away what the first is writing.
    let forced = scratch.program().args(["run", "grid.yaml", "--force"]).output().unwrap();
    failed_well(&forced, &[1, 2]);
    assert!(!scratch.unfinished("members.json").is_empty(), "the first process has its work still");
    // A lock outlives nobody: after a kill the folder is free.
    first.kill().unwrap();
    first.wait().unwrap();
    // Nor does what a kill in the middle of a table has left of it, long ago: its name does not tell on which machine.
    let tables = scratch.results().join("tables");
    let half = tables.join(format!(".main.md.{}-76.tmp", first.id()));
    fs::create_dir_all(&tables).unwrap();
    fs::write(&half, b"half a table").unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(2);
    fs::File::options().write(true).open(&half).unwrap().set_modified(long_ago).unwrap();
    scratch.finish_tables();
    assert!(!half.exists());
    assert_same(&scratch.results(), "a second process");
}

#[test]
fn of_two_that_start_at_once_one_works() {
    let scratch = Scratch::new();
    let both = [scratch.start("run"), scratch.start("run")].map(|child| child.wait_with_output().unwrap());
    assert!(both.iter().any(|output| output.status.success()), "{}", said(&both[0]));
    for output in both.iter().filter(|output| !output.status.success()) {
        failed_well(output, &[1, 2]);
        assert!(said(output).contains("another process"), "{}", said(output));
    }
    scratch.finish_tables();
    assert_same(&scratch.results(), "two processes");
}

#[test]
#[cfg_attr(not(namespaces), ignore = "needs `unshare -Urm`: user and mount namespaces")]
fn a_folder_that_is_read_only_is_found_before_anything_trains() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.folder().join("results")).unwrap();
    let script = "mount --bind results results && mount -o remount,ro,bind results && exec \"$0\" run grid.yaml";
    let output = Command::new("unshare")
        .args(["-Urm", "sh", "-c", script, crate::scratch::program()])
        .current_dir(scratch.folder())
        .output()
        .unwrap();
    failed_well(&output, &[1, 2]);
    let said = said(&output);
    assert!(said.contains("results/grid") && said.contains("Read-only"), "{said}");
    assert_eq!(files(&scratch.folder().join("results")), Vec::<std::path::PathBuf>::new());
    scratch.finish_tables();
    assert_same(&scratch.results(), "a read-only folder");
}
