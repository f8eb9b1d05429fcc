//! Arguments that cannot be meant.

use crate::{
    adapters,
    base::{Base, PREDICT},
    case::Case,
    experiments::yaml,
};

fn on_base(name: &str, arguments: &str) -> Case {
    Case::new(format!("command: {name}"), arguments, |place| Base::new().put(place))
}

fn on_experiment(name: &str, arguments: &str) -> Case {
    Case::new(format!("command: {name}"), arguments, |place| place.write("e.yaml", yaml("")))
}

fn on_adapter(name: &str, arguments: &str) -> Case {
    Case::new(format!("command: {name}"), arguments, |place| adapters::Folder::new().put(place))
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        on_experiment("an unknown device", "run e.yaml --device gpu"),
        on_experiment("no workers", "run e.yaml --workers 0"),
        on_experiment("2^64 - 1 workers", "run e.yaml --workers 18446744073709551615"),
        on_experiment("2^64 workers", "run e.yaml --workers 18446744073709551616"),
        on_experiment("a setting without a value", "check e.yaml --set train.steps"),
        on_experiment("a setting of no field", "check e.yaml --set train.stepz=3"),
        on_experiment("a setting that is no YAML", "check e.yaml --set seeds=["),
        on_experiment("a setting of an empty key", "check e.yaml --set =3"),
        on_experiment("a file that is not there", "check nowhere.yaml"),
        on_experiment("a table without records", "table e.yaml"),
        on_experiment("figures without records", "figures e.yaml"),
        on_experiment("an unknown format", "table e.yaml --format docx"),
        on_experiment("results inside a file", "--results e.yaml/results run e.yaml"),
        on_base("an unknown task", "predict --model ./base --task poems --data rows.tsv --out out.safetensors"),
        on_base(
            "rows that are not there",
            "predict --model ./base --task cola --data nowhere.tsv --out out.safetensors",
        ),
        on_base("rows of another task", "predict --model ./base --task mnli --data rows.tsv --out out.safetensors"),
        on_base(
            "an output in no folder",
            "predict --model ./base --task cola --data rows.tsv --out nowhere/out.safetensors",
        ),
        on_base("an output over its input", "predict --model ./base --task cola --data rows.tsv --out rows.tsv"),
        on_base(
            "a model that is a file",
            "predict --model ./rows.tsv --task cola --data rows.tsv --out out.safetensors",
        ),
        on_base("an adapter that is a base", "eval ./base"),
        on_base("an adapter that is not there", "eval ./nowhere"),
        on_adapter("a weight that is not a number", "combine peft=x --method linear --out new"),
        on_adapter("a weight of NaN", "combine peft=NaN --method linear --out new"),
        on_adapter("a rank for an exact method", "combine peft=1 --method linear --rank 4 --out new"),
        on_adapter("a rank of 0", "combine peft=1 --method svd --rank 0 --out new"),
        on_adapter("a density of 0", "combine peft=1 --method ties --density 0 --rank 2 --out new"),
        on_adapter("a density above 1", "combine peft=1 --method ties --density 1.5 --rank 2 --out new"),
        on_adapter("an output over its adapter", "combine peft=1 --method linear --out peft"),
        on_adapter("an output over the base", "import peft --model ./base --task cola --out base"),
        on_adapter("an import for an unknown task", "import peft --model ./base --task poems --out new"),
        on_adapter("a map that matches nothing", "analyze spectrum peft --maps nothing"),
        on_adapter("an expression that does not end", "analyze spectrum peft --maps ("),
        Case::new("command: an output to a FIFO", PREDICT, |place| {
            Base::new().put(place);
            let path = place.inside().join("out.safetensors");
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        }),
        Case::new("command: an output through a link", PREDICT, |place| {
            Base::new().put(place);
            #[cfg(unix)]
            std::os::unix::fs::symlink("../neighbour.safetensors", place.inside().join("out.safetensors")).unwrap();
        }),
    ]
}
