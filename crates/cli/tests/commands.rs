//! The program as a person meets it: output, errors and exit statuses.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    path::Path,
    process::{Command, Output},
};

fn lora_lab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lora-lab"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .args(arguments)
        .output()
        .unwrap()
}

#[track_caller]
fn check(arguments: &[&str], status: i32, stdout: &[&str], stderr: &[&str]) -> Output {
    let output = lora_lab(arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}\n{err}");
    for part in stdout {
        assert!(out.contains(part), "no `{part}` in stdout:\n{out}");
    }
    for part in stderr {
        assert!(err.contains(part), "no `{part}` in stderr:\n{err}");
    }
    output
}

#[test]
fn help_teaches() {
    check(&["--help"], 0, &["lora-lab run experiments/dylora_glue.yaml", "130 interrupted"], &[]);
}

#[test]
fn what_a_person_reads_is_pinned() {
    let shown = |arguments: &[&str]| {
        let output = lora_lab(arguments);
        let text = [output.stdout, output.stderr].concat();
        format!("$ lora-lab {}\n{}", arguments.join(" "), String::from_utf8(text).unwrap())
    };
    let helps: Vec<String> = [
        "--help",
        "run --help",
        "check --help",
        "table --help",
        "eval --help",
        "predict --help",
        "tensorboard --help",
        "export --help",
        "merge --help",
        "combine --help",
        "import --help",
        "report --help",
    ]
    .map(|line| shown(&line.split(' ').collect::<Vec<_>>()))
    .to_vec();
    insta::assert_snapshot!("help", helps.join("\n"));
    let lists: Vec<String> = ["tasks", "models"].map(|what| shown(&["list", what])).to_vec();
    insta::assert_snapshot!("lists", lists.join("\n"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    let yaml = "\
suite: glue_mini
model: mini_robarta
tasks: [sst, cola]
seeds: [0, 0]
targets: [qeury, value]
ranks: [4, 1000]
train: {steps: 10, evaluate_every: 0, learning_rate: -1}
variants:
  - lora
  - {preset: adalora, with: {rank_policy: {target_rank: 9}, colour: blue}}
  - {preset: dylora, with: {rank_policy: {r_min: 0}}}
contrasts: [{variant: lorra, against: lora}]
baseline: none
";
    std::fs::write(&file, yaml).unwrap();
    let path = file.display().to_string();
    insta::assert_snapshot!("problems", shown(&["check", &path]).replace(&path, "bad.yaml"));
}

#[test]
fn every_command_teaches_by_an_example_and_keeps_its_old_name() {
    let commands = |arguments: &[&str]| {
        let output = lora_lab(&[arguments, &["--help"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let listed = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let names: Vec<String> = listed.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect();
        names.into_iter().filter(|name| name != "help").collect::<Vec<_>>()
    };
    let mut lines: Vec<Vec<String>> = commands(&[]).into_iter().map(|name| vec![name]).collect();
    lines.extend(commands(&["analyze"]).into_iter().map(|name| vec!["analyze".to_owned(), name]));
    assert!(lines.len() > 20, "{lines:?}");
    for line in lines {
        let line: Vec<&str> = line.iter().map(String::as_str).chain(["--help"]).collect();
        check(&line, 0, &["Example", &format!("lora-lab {}", line[0])], &[]);
    }
    for old in [["paper"].as_slice(), &["analyze", "reach"], &["analyze", "heat"], &["analyze", "movement"]] {
        check(&[old, &["--help"]].concat(), 0, &["Example"], &[]);
    }
}

#[test]
fn a_report_is_one_file_of_the_studies_that_were_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new/page.html").display().to_string();
    check(&["report", "dylora_glue", "continual", "--out", &file], 0, &[], &["page.html"]);
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.contains("<title>dylora_glue, continual</title>") && page.contains("default-src 'none'"));
    let nothing = folder.path().join("nothing.html").display().to_string();
    let refused = |arguments: &[&str], said: &str| {
        check(&[&["report"], arguments, &["--out", nothing.as_str()]].concat(), 2, &[], &[said]);
    };
    refused(&["continual", "continual"], "`continual` is named twice");
    refused(&["no_such_study"], "lora-lab list experiments");
    refused(&["quick"], "no records yet");
    refused(&["continual", "dylora_glue", "--set", "cohort=1"], "`--set` is about one experiment");
    assert!(!std::path::Path::new(&nothing).exists());
}

#[test]
fn lists_come_from_the_registries() {
    check(&["list", "variants"], 0, &variants::preset::all().iter().map(|p| p.name).collect::<Vec<_>>(), &[]);
    check(&["list", "tasks"], 0, &["glue_mini cola", "matthews"], &[]);
    check(&["list", "models"], 0, &["mini_roberta_random"], &[]);
    check(&["list", "experiments"], 0, &["dylora_glue", "compare_variants"], &[]);
}

#[test]
fn devices_are_shown_and_refused_by_name() {
    for command in [["devices"].as_slice(), &["list", "devices"]] {
        check(command, 0, &["flex", "pure Rust, strict f32", "tch:cuda:", "vulkan", "`--device auto` takes "], &[]);
    }
    // Of no machine; found before the model is opened or a folder made.
    let results = tempfile::tempdir().unwrap();
    let folder = results.path().join("results").display().to_string();
    let run = ["--results", &folder, "run", "experiments/quick.yaml", "--device", "tch:cuda:99"];
    check(&run, 2, &[], &["device `tch:cuda:99`", "present: flex", "lora-lab devices"]);
    assert!(!results.path().join("results").exists());
}

#[test]
fn bad_input_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    let yaml = "suite: glue_mini\nmodel: mini_roberta\ntasks: [sst]\nseeds: [0]\ntargets: [query]\nvariants: [{preset: lorra, ranks: [4]}]\n";
    std::fs::write(&file, yaml).unwrap();
    let path = file.display().to_string();
    let problems = ["2 problems", "tasks[0]", "(line 3)", "did you mean `sst2`?", "did you mean `lora`?"];
    check(&["check", &path], 2, &[], &problems);
    check(&["run", &path], 2, &[], &problems);
    check(&["run", "exp/no_such.yaml"], 2, &[], &["no_such", "lora-lab list experiments"]);
    check(&["run", "experiments/quick.yaml", "--device", "gpu"], 2, &[], &["device `gpu`", "flex"]);
    check(&["run", "experiments/quick.yaml", "--set", "train.stepz=3"], 2, &[], &["stepz"]);
    for workers in ["0", "1025", "18446744073709551615"] {
        check(&["run", "experiments/quick.yaml", "--workers", workers], 2, &[], &["--workers", workers, "1..=1024"]);
    }
    check(&["eval", "/no/such/folder"], 2, &[], &["/no/such/folder"]);
    // A file where the results should go is found before anything is trained.
    let in_the_way = folder.path().join("results");
    std::fs::write(&in_the_way, b"in the way").unwrap();
    let in_the_way = in_the_way.display().to_string();
    check(&["--results", &in_the_way, "check", "experiments/quick.yaml"], 2, &[], &["results", "--results DIR"]);
    check(&["pretrain", "--steps", "0"], 2, &[], &["--steps must be at least 1"]);
}

#[test]
fn a_run_leaves_tables_and_an_adapter_that_evaluates() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().display().to_string();
    let run = ["--results", &results, "run", "experiments/quick.yaml", "--set", "train.steps=3"];
    check(&run, 0, &["dylora", "lora"], &["4 cells, 0 finished before"]);
    check(&run, 0, &["dylora"], &["4 finished before, 0 steps to do"]);
    let csv = std::fs::read_to_string(folder.path().join("quick/tables/summary.csv")).unwrap();
    assert!(
        csv.starts_with(
            "task,variant,rank,metric,n,mean,std,ci_low,ci_high,trainable_params,head_params,seconds_per_step"
        ),
        "{csv}"
    );
    let adapter = folder.path().join("quick/runs/sst2-dylora-r4-s0").display().to_string();
    check(&["eval", &adapter, "--rank", "1,3"], 0, &["sst2,dylora,1,dev,accuracy", "sst2,dylora,3,dev,accuracy"], &[]);
    check(&["eval", &adapter, "--rank", "9"], 2, &[], &["rank is `9`", "1, 2, 3, 4"]);
    // A smaller adapter of its own computes what the trained one computes at that rank, and an SVD of full rank the same again.
    let (cut, svd) = (folder.path().join("cut").display().to_string(), folder.path().join("svd").display().to_string());
    check(&["export", &adapter, "--rank", "3", "--out", &cut], 0, &[], &["adapter.safetensors"]);
    let numbers = |arguments: &[&str]| {
        let output = lora_lab(arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().skip(1).map(|line| line.split(',').skip(2).collect::<Vec<_>>().join(",")).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&["eval", &cut]), numbers(&["eval", &adapter, "--rank", "3"]));
    check(&["export", &adapter, "--rank", "9", "--out", &cut], 2, &[], &["rank is `9`", "--svd"]);
    let lora = folder.path().join("quick/runs/sst2-lora-r4-s0").display().to_string();
    check(&["export", &lora, "--rank", "4", "--svd", "--out", &svd], 0, &[], &[]);
    assert_eq!(numbers(&["eval", &svd]), numbers(&["eval", &lora]));
    // Subspaces of two adapters, as a file and for another side.
    let other = folder.path().join("quick/runs/sst2-lora-r4-s1").display().to_string();
    let phi = folder.path().join("phi.csv").display().to_string();
    check(&["analyze", "phi", &lora, &other, "--out", &phi], 0, &[], &["rows to"]);
    let table = std::fs::read_to_string(&phi).unwrap();
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("module,i,j,phi"));
    let values: Vec<f64> = lines.map(|line| line.rsplit(',').next().unwrap().parse().unwrap()).collect();
    assert_eq!(values.len(), 8 * 4 * 4);
    assert!(values.iter().all(|phi| (0.0..=1.0).contains(phi)));
    check(&["analyze", "phi", &lora, &lora, "--side", "delta", "--maps", "query$"], 0, &["query,4,4,1"], &[]);
    check(&["analyze", "phi", &lora, "/no/such"], 2, &[], &["/no/such", "adapter_config.json"]);
    check(&["analyze", "projection", &lora, "--format", "json"], 0, &["\"amplification\""], &[]);
    check(
        &["analyze", "layers", &lora, "--side", "delta", "--maps", "query$"],
        0,
        &["kind,first_layer,second_layer,i,j,phi,random_mean,ambiguous\nquery,0,1,1,1,"],
        &[],
    );
    check(&["analyze", "layers", &lora, "--maps", "layer.0"], 2, &[], &["no two layers"]);
    check(&["analyze", "spectrum", &lora, "--directions"], 0, &["map,k,value,energy,cumulative,ambiguous"], &[]);
    let captured = check(&["analyze", "captured-energy", &lora, &lora], 0, &["module,rank,reach,random_mean"], &[]);
    // Its own update lies in the span of its own A.
    let own = String::from_utf8(captured.stdout).unwrap();
    assert!(own.lines().skip(1).all(|line| line.split(',').nth(2).unwrap().parse::<f64>().unwrap() > 0.999), "{own}");
    // Logits of a split; what cannot be predicted says why.
    let logits = folder.path().join("logits.safetensors");
    let path = logits.display().to_string();
    check(
        &["predict", "--adapter", &lora, "--split", "dev", "--out", &path],
        0,
        &["accuracy,"],
        &["logits of 480 rows"],
    );
    let bytes = std::fs::read(&logits).unwrap();
    assert!(bytes.windows(8).any(|part| part == b"[480,2],"), "the header has the shape of the logits");
    check(&["predict", "--adapter", &lora, "--split", "tset"], 2, &[], &["no split `tset`", "`dev`"]);
    check(&["predict", "--adapter", &lora], 2, &[], &["--data FILE"]);
    // Before the rows are looked for, of which there are none.
    let parts = ["sst2: has no submission file", "tasks of GLUE have one alone", "`--out`"];
    check(&["predict", "--adapter", &lora, "--split", "tset", "--submission", &path], 2, &[], &parts);
    check(
        &["predict", "--model", "mini_roberta", "--task", "rte", "--split", "dev"],
        2,
        &[],
        &["no classification head"],
    );
    check(&["predict"], 2, &[], &["--adapter", "--model"]);
    // Another recipe under the same name is not trained over what is there.
    let other = ["--results", &results, "run", "experiments/quick.yaml", "--set", "train.steps=4"];
    check(&other, 2, &[], &["4 of 4 cells have records of another recipe", "--set name=NEW", "--force"]);
    check(
        &["--results", &results, "table", "quick", "--set", "train.steps=3", "--format", "latex"],
        0,
        &["\\begin{tabular}"],
        &[],
    );
    let latex = std::fs::read_to_string(folder.path().join("quick/tables/main.tex")).unwrap();
    assert!(latex.is_ascii() && latex.contains("\\label{tab:quick-main}"), "{latex}");
    // Event files, of which a second call leaves no second copy.
    for _ in 0..2 {
        let boards = ["--results", &results, "tensorboard", "experiments/quick.yaml", "--set", "train.steps=3"];
        check(&boards, 0, &["quick/tensorboard"], &["quick: 4 runs"]);
    }
    let events = |name: &str| {
        let entries = std::fs::read_dir(folder.path().join("quick/tensorboard").join(name)).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("tfevents")).count()
    };
    assert_eq!((events(""), events("sst2-lora-r4-s1")), (1, 1));
    check(&["--results", &results, "tensorboard", "dylora_glue"], 2, &[], &["no records yet", "lora-lab run"]);
    let among = folder.path().join("quick/runs").display().to_string();
    let boards =
        ["--results", &results, "tensorboard", "experiments/quick.yaml", "--set", "train.steps=3", "--out", &among];
    check(&boards, 2, &[], &["the runs of an experiment", "--out"]);
    // Figures in every format.
    check(
        &["--results", &results, "figures", "experiments/quick.yaml", "--set", "train.steps=3"],
        0,
        &[],
        &["comparison.svg"],
    );
    for end in ["svg", "pdf", "png", "csv"] {
        assert!(folder.path().join(format!("quick/figures/comparison.{end}")).is_file(), "{end}");
    }
    let torn = folder.path().join("quick/runs/sst2-dylora-r4-s0/adapter.safetensors");
    std::fs::write(&torn, b"torn").unwrap();
    check(&["eval", &adapter], 2, &[], &["adapter.safetensors", "give another adapter"]);
}

#[test]
fn a_run_is_merged_and_combined() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().display().to_string();
    check(&["--results", &results, "run", "experiments/quick.yaml", "--set", "train.steps=3"], 0, &[], &[]);
    let adapter = folder.path().join("quick/runs/sst2-dylora-r4-s0").display().to_string();
    let lora = folder.path().join("quick/runs/sst2-lora-r4-s0").display().to_string();
    let new = folder.path().join("new").display().to_string();
    // A checkpoint of its own, written again over itself and over nothing else.
    let merged = folder.path().join("merged").display().to_string();
    for dtype in ["bf16", "f32"] {
        check(
            &["merge", &adapter, "--rank", "2", "--dtype", dtype, "--rows", "8", "--out", &merged],
            0,
            &["dtype,largest_difference,changed,rows\nfloat32,", "\nbfloat16,", ",8\n"],
            &["compared on dev of `sst2`", "left out", "lm_head.bias"],
        );
    }
    let dev = folder.path().join("dev.tsv");
    std::fs::write(&dev, "sentence\tlabel\nthe dog slept .\t1\na cat ran .\t0\n").unwrap();
    let dev = dev.display().to_string();
    check(&["predict", "--model", &merged, "--task", "sst2", "--data", &dev], 0, &["accuracy,"], &[]);
    check(&["merge", &lora, "--out", &results], 2, &[], &["is or holds an input of this command"]);
    check(&["merge", &lora, "--split", "tset", "--out", &new], 2, &[], &["no split `tset`"]);
    check(&["merge", "/no/such", "--out", &merged], 2, &[], &["/no/such", "no adapter here"]);
    // Sums, and what a rank costs; what a method does not use is named.
    let combined = folder.path().join("combined").display().to_string();
    let half = format!("{lora}=0.5");
    check(
        &["combine", &half, &adapter, "--method", "svd", "--rank", "8", "--head", &lora, "--out", &combined],
        0,
        &["map,rank,norm,lost,lost_share\n", "\nall,64,"],
        &["wrote 8 maps"],
    );
    check(&["analyze", "phi", &combined, &lora, "--maps", "query$"], 0, &["module,i,j,phi"], &[]);
    check(
        &["combine", &lora, &combined, "--method", "ties", "--density", "0.3", "--rank", "4", "--out", &merged],
        2,
        &[],
        &["not an earlier output of `lora-lab combine`"],
    );
    check(
        &["combine", &lora, "--method", "task_arithmetic", "--rank", "2", "--out", &combined],
        2,
        &[],
        &["`--rank` has no part"],
    );
    check(
        &["combine", &lora, "--method", "dare", "--out", &combined],
        2,
        &[],
        &["`dare` needs `--rank`", "`--density`"],
    );
    // The option's old name.
    check(
        &["combine", &lora, "--method", "svd", "--rank", "2", "--election", "total", "--out", &combined],
        2,
        &[],
        &["`--majority-sign-method` has no part"],
    );
    assert!(!Path::new(&new).exists());
}

#[test]
fn a_run_goes_to_peft_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let results = path("results");
    check(&["--results", &results, "run", "experiments/quick.yaml", "--set", "train.steps=3"], 0, &[], &[]);
    let run = folder.path().join("results/quick/runs/sst2-lora-r4-s0").display().to_string();
    let nested = folder.path().join("results/quick/runs/sst2-dylora-r4-s0").display().to_string();
    let (there, back, at_2, new) = (path("there"), path("back"), path("at_2"), path("new"));
    check(&["export", &run, "--to", "peft", "--out", &there], 0, &[], &["wrote LORA with 8 maps", "num_labels=2"]);
    check(&["import", &there, "--out", &back], 0, &[], &["wrote", "adapter.safetensors"]);
    // Run, folder and what was taken from it are one function, to the bit: every tensor is copied.
    let predicted = |adapter: &str| {
        let out = path("logits.safetensors");
        check(&["predict", "--adapter", adapter, "--split", "dev", "--out", &out], 0, &["accuracy,"], &["480 rows"]);
        std::fs::read(out).unwrap()
    };
    let wanted = predicted(&run);
    assert!(predicted(&there) == wanted && predicted(&back) == wanted);
    check(&["export", &nested, "--to", "peft", "--rank", "2", "--out", &at_2], 0, &[], &["wrote LORA with 8 maps"]);
    // As an adapter that PEFT trained: the task is given beside it.
    std::fs::remove_file(folder.path().join("at_2/lora_lab.json")).unwrap();
    check(&["import", &at_2, "--out", &new], 2, &[], &["adapter_config.json", "which task", "--task NAME"]);
    check(&["export", &run, "--to", "peft", "--residual", "--out", &new], 2, &[], &["`--residual`", "leave it out"]);
    check(
        &["import", &at_2, "--task", "cola", "--suite", "glue_mini", "--out", &results],
        2,
        &[],
        &["not an earlier output"],
    );
    assert!(!Path::new(&new).exists());
    check(&["import", &at_2, "--task", "sst2", "--suite", "glue_mini", "--out", &new], 0, &[], &["wrote"]);
    let cut = path("cut");
    check(&["export", &nested, "--rank", "2", "--out", &cut], 0, &[], &[]);
    let smaller = predicted(&cut);
    assert!(predicted(&new) == smaller && smaller != wanted);
}

/// `--out` replaces what the same command wrote, and nothing else.
#[test]
fn outputs_never_destroy() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let results = path("results");
    check(&["--results", &results, "run", "experiments/quick.yaml", "--set", "train.steps=3"], 0, &[], &[]);
    let (lora, nested) = (path("results/quick/runs/sst2-lora-r4-s0"), path("results/quick/runs/sst2-dylora-r4-s0"));
    let files = ["record.json", "adapter.safetensors"].map(|name| folder.path().join(&lora).join(name));
    let before = files.each_ref().map(|file| std::fs::read(file).unwrap());
    let record = format!("{lora}/record.json");
    for force in [None, Some("--force")] {
        let refused = |line: &[&str], part: &str| {
            let line: Vec<&str> = line.iter().copied().chain(force).collect();
            check(&line, 2, &[], &[part]);
        };
        for out in [record.as_str(), &lora] {
            refused(&["analyze", "spectrum", &lora, "--out", out], "has the runs of an experiment");
            refused(&["predict", "--adapter", &lora, "--split", "dev", "--out", out], "has the runs of an experiment");
        }
        refused(&["export", &nested, "--rank", "1", "--out", &lora], "has the runs of an experiment");
        refused(&["export", &nested, "--to", "peft", "--out", &lora], "has the runs of an experiment");
        refused(&["merge", &nested, "--out", &lora], "has the runs of an experiment");
        refused(&["combine", &nested, "--method", "linear", "--out", &lora], "has the runs of an experiment");
        refused(
            &["predict", "--adapter", &lora, "--split", "dev", "--submission", &lora],
            "has the runs of an experiment",
        );
        #[cfg(unix)]
        refused(&["analyze", "spectrum", &lora, "--out", "/dev/null"], "is a device");
        let rows = path("rows.tsv");
        std::fs::write(&rows, "sentence\tlabel\nthe dog slept .\t1\n").unwrap();
        refused(&["predict", "--adapter", &lora, "--data", &rows, "--out", &rows], "input of this command");
        assert!(std::fs::read(&rows).unwrap().starts_with(b"sentence"));
    }
    assert!(files.each_ref().map(|file| std::fs::read(file).unwrap()) == before);
    check(
        &["--results", &results, "run", "experiments/quick.yaml", "--set", "train.steps=3"],
        0,
        &[],
        &["4 finished before"],
    );

    // A table or logits again, in either format, but no table of another kind and no file of somebody else.
    let table = path("table.csv");
    let spectrum = ["analyze", "spectrum", &lora, "--out", &table];
    for format in ["csv", "json", "csv"] {
        check(&[&spectrum[..], &["--format", format]].concat(), 0, &[], &["rows to"]);
    }
    check(&[&spectrum[..], &["--directions"]].concat(), 2, &[], &["not an earlier output", "`--force`"]);
    let predict = ["predict", "--adapter", &lora, "--split", "dev", "--out", &table];
    check(&predict, 2, &[], &["not an earlier output", "`--force`"]);
    for forced in [["--force"].as_slice(), &[]] {
        check(&[&predict[..], forced].concat(), 0, &["accuracy,"], &["480 rows"]);
    }
    let mine = path("mine");
    std::fs::create_dir(&mine).unwrap();
    std::fs::write(path("mine/notes.txt"), "mine").unwrap();
    let export = ["export", &nested, "--rank", "1", "--out", &mine];
    check(&export, 2, &[], &["not an earlier output of `lora-lab export`", "`--force`"]);
    check(&["pretrain", "--steps", "1", "--out", &mine], 2, &[], &["not an earlier output of `lora-lab pretrain`"]);
    check(&[&export[..], &["--force"]].concat(), 0, &[], &["adapter.safetensors"]);
    assert_eq!(std::fs::read(path("mine/notes.txt")).unwrap(), b"mine");
}

/// Rows that are cut are counted, wherever rows are read.
#[test]
fn cut_rows_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let results = path("results");
    let settings = ["--set", "train.steps=3", "--set", "train.max_length=8", "--set", "seeds=[0]"];
    check(&[&["--results", &results, "run", "experiments/quick.yaml"][..], &settings].concat(), 0, &[], &[]);
    let lora = path("results/quick/runs/sst2-lora-r4-s0");
    let rows = path("rows.tsv");
    std::fs::write(&rows, "sentence\tlabel\nthe dog slept .\t1\nthe dog and the cat and the dog slept .\t1\n").unwrap();
    let predict = ["predict", "--adapter", &lora, "--data", &rows];
    check(&predict, 0, &["accuracy,"], &["1 of 2 rows (50.0%) are longer than max_length 8 and were cut"]);
    let whole = check(&[&predict[..], &["--max-length", "40"]].concat(), 0, &["accuracy,"], &[]);
    assert!(!String::from_utf8_lossy(&whole.stderr).contains("cut"));
    check(
        &[&predict[..], &["--max-length", "100000"]].concat(),
        2,
        &[],
        &["max_length is `100000`", "positions of the base"],
    );
    check(&["eval", &lora], 0, &["accuracy,"], &["dev: ", "of 480 rows", "are longer than max_length 8 and were cut"]);
}

/// The layout of the hub's cache: a branch names a commit, and a folder of that commit has the files.
fn cached(root: &Path, kind: &str, name: &str, files: &[(&str, &[u8])]) {
    let folder = root.join("hub").join(format!("{kind}--{}", name.replace('/', "--")));
    let snapshot = folder.join("snapshots/0123abcd");
    std::fs::create_dir_all(folder.join("refs")).unwrap();
    std::fs::write(folder.join("refs/main"), "0123abcd").unwrap();
    for (file, bytes) in files {
        let path = snapshot.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn what_lies_in_the_hubs_cache_is_used_offline() {
    let home = tempfile::tempdir().unwrap();
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/assets/mini_roberta");
    let asset = |name: &str| std::fs::read(assets.join(name)).unwrap();
    let (config, tokenizer, weights) = (asset("config.json"), asset("tokenizer.json"), asset("model.safetensors"));
    cached(
        home.path(),
        "models",
        "lab/mini",
        &[("config.json", &config), ("tokenizer.json", &tokenizer), ("model.safetensors", &weights)],
    );
    let rows = |n: usize| -> Vec<u8> {
        (0..n)
            .map(|i| {
                format!(
                    "{{\"sentence\": \"the {} slept .\", \"label\": {}, \"idx\": {i}}}\n",
                    ["dog", "cat"][i % 2],
                    i % 2
                )
            })
            .collect::<String>()
            .into_bytes()
    };
    let (train, dev) = (rows(16), rows(6));
    cached(home.path(), "datasets", "lab/glue", &[("sst2/train.jsonl", &train), ("sst2/validation.jsonl", &dev)]);
    let yaml = |model: &str, data: &str| {
        let path = home.path().join("x.yaml");
        std::fs::write(
            &path,
            format!(
                "suite: glue\ndata: hf://{data}\nmodel: hf://{model}\ntasks: [sst2]\nseeds: [0]\ntargets: [query]\nranks: [2]\n\
                 train: {{steps: 2, batch: 4, max_length: 16}}\nvariants: [lora]\n"
            ),
        )
        .unwrap();
        path.display().to_string()
    };
    let offline = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_lora-lab"))
            .current_dir(home.path())
            .env("HF_HOME", home.path())
            .env("HF_HUB_OFFLINE", "1")
            .args(arguments)
            .output()
            .unwrap()
    };
    let output = offline(&["run", &yaml("lab/mini", "lab/glue")]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(out.contains("sst2 accuracy") && err.contains("base: hf://lab/mini, an encoder"), "{out}\n{err}");
    for (model, data, parts) in [
        ("lab/none", "lab/glue", ["hf://lab/none@main", "models--lab--none"]),
        ("lab/mini@v2", "lab/glue", ["hf://lab/mini@v2", "models--lab--mini"]),
        ("lab/mini", "lab/none", ["lab/none", "datasets--lab--none"]),
    ] {
        let output = offline(&["run", &yaml(model, data), "--set", "name=other"]);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(parts.iter().all(|part| err.contains(part)), "{err}");
    }
}
