//! No space left, at every kind of write: on a small file system of the test's own, and by a limit on the size of files.

use std::{fs, process::Command};

use crate::{
    count,
    outcome::{assert_same, files, undisturbed, whole},
    scratch::{Scratch, failed_well, program, said},
};

/// Runs the study on a file system of `$1` bytes, keeps what stands there then, and runs it again with room. The mount is gone with the
/// process, so both states are copied out of it.
const SMALL: &str = r#"
mkdir results && mount -t tmpfs -o size="$1" none results
status=0
"$0" run grid.yaml --workers 2 >/dev/null 2>said || status=$?
echo $status
cp -a results full
mount -o remount,size=256m results
"$0" run grid.yaml >/dev/null 2>again
cp -a results roomy
"#;

#[test]
#[cfg_attr(not(namespaces), ignore = "needs `unshare -Urm`: user and mount namespaces")]
fn a_full_disk_loses_nothing() {
    let bytes: u64 = undisturbed().0.values().map(|bytes| bytes.len() as u64).sum();
    let sizes = count(6, 40) as u64;
    let mut full = 0;
    for at in 0..sizes {
        // From nothing to more than a whole study takes, which its checkpoints exceed for a while; in pages.
        let size = (bytes * 2 * at / sizes).next_multiple_of(4096).max(4096);
        let scratch = Scratch::new();
        let output = Command::new("unshare")
            .args(["-Urm", "sh", "-ec", SMALL, program(), &size.to_string()])
            .current_dir(scratch.folder())
            .output()
            .unwrap();
        let again = fs::read_to_string(scratch.folder().join("again")).unwrap_or_default();
        assert!(output.status.success(), "{size} bytes: {}\n{again}", said(&output));
        let text = fs::read_to_string(scratch.folder().join("said")).unwrap();
        let status = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(
            !text.contains("panicked") && (status == "0" || status == "1"),
            "{size} bytes: status {status}\n{text}"
        );
        if status == "1" {
            full += 1;
            assert!(text.contains("No space left") && text.contains("results/grid"), "{size} bytes:\n{text}");
        }
        whole(&scratch.folder().join("full/grid"));
        assert_same(&scratch.folder().join("roomy/grid"), &format!("a disk of {size} bytes"));
    }
    assert!(full > sizes as usize / 3, "{full} of {sizes} disks were full");
    println!("{sizes} sizes of disks, {full} of them too small; all studies ended at the same bits");
}

/// The program under a limit of `blocks` of 512 bytes on every file that it writes.
fn limited(scratch: &Scratch, blocks: u64, arguments: &[&str]) -> std::process::Output {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, program()]).args(arguments).current_dir(scratch.folder());
    command.output().unwrap()
}

#[test]
fn every_command_that_writes_says_which_file_it_could_not() {
    let scratch = Scratch::new();
    scratch.finish();
    let before = files(scratch.folder());
    let runs = "results/grid/runs";
    let (lora, other) = (format!("{runs}/mood-lora-r2-s0"), format!("{runs}/size-lora-r2-s0"));
    let commands: [&[&str]; 9] = [
        &["table", "grid.yaml"],
        &["figures", "grid.yaml"],
        &["run", "grid.yaml", "--set", "name=new"],
        &["export", &lora, "--rank", "1", "--svd", "--out", "new"],
        &["export", &lora, "--to", "peft", "--out", "new"],
        &["merge", &lora, "--out", "new"],
        &["combine", &format!("{lora}=0.5"), &format!("{other}=0.5"), "--method", "linear", "--out", "new"],
        &["predict", "--adapter", &lora, "--split", "dev", "--out", "new.safetensors"],
        &["analyze", "spectrum", &lora, "--out", "new.csv"],
    ];
    for arguments in commands {
        let output = limited(&scratch, 0, arguments);
        failed_well(&output, &[1]);
        let said = said(&output);
        assert!(said.contains("File too large"), "{arguments:?}: {said}");
        assert!(said.contains("new") || said.contains("results/grid"), "{arguments:?} names no file: {said}");
        // But for unfinished work, which the next run takes up or clears away.
        let stray = |path: &&std::path::PathBuf| {
            !before.contains(path) && !path.components().any(|part| part.as_os_str() == ".partial")
        };
        assert_eq!(files(scratch.folder()).iter().find(stray), None, "{arguments:?} leaves a file");
        whole(&scratch.results());
        for left in ["new", "results/new"] {
            let _ = fs::remove_dir_all(scratch.folder().join(left));
        }
    }
    assert_same(&scratch.results(), "files that could not be written");
}

#[test]
fn files_of_a_limited_size_are_written_whole_or_not_at_all() {
    // In blocks of 512 bytes: journals of a study this small stay below all of them, adapters and figures below some, and a checkpoint,
    // with both moments of its runs, below none.
    let all = [1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 384, 512];
    let limits = if count(0, 1) == 0 { &all[4..=10][..] } else { &all };
    let limits: Vec<u64> = limits.iter().copied().step_by(count(3, 1)).collect();
    for &blocks in &limits {
        let scratch = Scratch::new();
        let output = limited(&scratch, blocks, &["run", "grid.yaml", "--workers", "2"]);
        failed_well(&output, &[1]);
        assert!(said(&output).contains("File too large"), "{}", said(&output));
        whole(&scratch.results());
        scratch.finish_tables();
        assert_same(&scratch.results(), &format!("files of at most {blocks} blocks"));
    }
    println!("{} limits on the size of files; all studies ended at the same bits", limits.len());
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs /dev/full")]
fn output_to_a_full_device_is_an_error() {
    let scratch = Scratch::new();
    scratch.finish_tables();
    let script = "exec \"$0\" table grid.yaml >/dev/full";
    let mut command = Command::new("sh");
    let output = command.args(["-c", script, program()]).current_dir(scratch.folder()).output().unwrap();
    failed_well(&output, &[1]);
    assert!(said(&output).contains("No space left"), "{}", said(&output));
}
