//! Reads the block `launcher`.

use serde_yaml::Value;

use super::reader::Reader;
use crate::{
    bounds::Whole,
    error::Report,
    fields::{map, shown, whole},
    launcher::{Slurm, TEXTS},
    path::Path,
};

/// Numbers of the block, and their bounds.
const CORES: Whole = Whole { least: 1, most: 4096 };
const GIGABYTES: Whole = Whole { least: 1, most: 1_048_576 };
/// A year.
const MINUTES: Whole = Whole { least: 1, most: 525_600 };
const TASKS: Whole = Whole { least: 1, most: 100_000 };
/// Slurm takes 65,535 seconds at most.
const SECONDS: Whole = Whole { least: 1, most: 65_535 };
const TIMES: Whole = Whole { least: 0, most: 1_000_000 };

const KEYS: [&str; 9] = [
    "gpus_per_node",
    "cpus_per_task",
    "mem_gb",
    "timeout_min",
    "array_parallelism",
    "signal_delay_s",
    "max_num_timeout",
    "setup",
    "additional_parameters",
];
/// Options that the launcher gives itself, and the field that says what is to be said, where there is one.
const OWN: [(&str, Option<&str>); 14] = [
    ("array", Some("array_parallelism")),
    ("chdir", None),
    ("cpus-per-task", Some("cpus_per_task")),
    ("error", None),
    ("gpus-per-node", Some("gpus_per_node")),
    ("mem", Some("mem_gb")),
    ("nodes", None),
    ("ntasks", None),
    ("open-mode", None),
    ("output", None),
    ("parsable", None),
    ("requeue", None),
    ("signal", Some("signal_delay_s")),
    ("time", Some("timeout_min")),
];

/// Reads the block.
pub(crate) fn launcher(value: &Value, at: &Path, report: &mut Report) -> Option<Slurm> {
    let known: Vec<&str> = TEXTS.iter().map(|(name, _)| *name).chain(KEYS).collect();
    let fields = map(value, at, &known, report)?;
    let mut reader = Reader { fields, at: at.clone(), report };
    let mut slurm = Slurm::default();
    for (name, option) in TEXTS {
        slurm.texts.extend(reader.read(name, line).map(|text| (option, text.value)));
    }
    let mut number = |name: &str, bound: Whole| {
        reader.read(name, |v, at, report| whole(v, at, bound, report)).map(|number| number.value)
    };
    slurm.cpus_per_task = number("cpus_per_task", CORES);
    slurm.mem_gb = number("mem_gb", GIGABYTES);
    slurm.timeout_min = number("timeout_min", MINUTES);
    let all = number("array_parallelism", TASKS);
    slurm.array_parallelism = all.unwrap_or(slurm.array_parallelism);
    let delay = number("signal_delay_s", SECONDS);
    slurm.signal_delay_s = delay.unwrap_or(slurm.signal_delay_s);
    let times = number("max_num_timeout", TIMES);
    slurm.max_num_timeout = times.unwrap_or(slurm.max_num_timeout);
    slurm.gpus_per_node = reader.read("gpus_per_node", line).map(|text| text.value);
    let gres =
        slurm.texts.iter().find(|(option, text)| *option == "gres" && text.contains("gpu")).map(|(_, text)| text);
    for (field, text) in [("gpus_per_node", slurm.gpus_per_node.as_ref()), ("gres", gres)] {
        let cards = text.and_then(|text| text.rsplit(':').next()?.parse::<u64>().ok()).unwrap_or(1);
        if cards != 1 {
            let rule = format!(
                "{field} asks for {cards} cards, but a task trains on one; ask for 1, and say by array_parallelism how many tasks run at once"
            );
            reader.report.add(&at.key(field), rule);
        }
    }
    slurm.setup = reader.read("setup", lines).map(|lines| lines.value).unwrap_or_default();
    let more = reader.read("additional_parameters", options);
    slurm.additional_parameters = more.map(|options| options.value).unwrap_or_default();
    if let Some(minutes) = slurm.timeout_min.filter(|minutes| minutes * 60 <= slurm.signal_delay_s) {
        let rule = format!(
            "timeout_min is `{minutes}`, but a task saves {} seconds before its end (signal_delay_s), so it would have no time to train; give a longer limit",
            slurm.signal_delay_s
        );
        report.add(&at.key("timeout_min"), rule);
    }
    Some(slurm)
}

/// A text of one line, or a number: what an option of `sbatch` can be.
fn line(value: &Value, at: &Path, report: &mut Report) -> Option<String> {
    let text = match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let text = text.filter(|text| !text.is_empty() && !text.contains(['\n', '\r']));
    if text.is_none() {
        report.add(at, format!("{} is {}, but must be a text of one line", at.last(), shown(value)));
    }
    text
}

/// Lines of shell, one text or a list of them.
fn lines(value: &Value, at: &Path, report: &mut Report) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(text.lines().map(str::to_owned).collect()),
        Value::Sequence(all) => {
            let one = |(index, value): (usize, &Value)| line(value, &at.index(index), report);
            all.iter().enumerate().map(one).collect()
        }
        other => {
            report.add(at, format!("setup is {}, but must be a list of lines of shell", shown(other)));
            None
        }
    }
}

/// Further options of `sbatch`; one that is `true` has no value.
fn options(value: &Value, at: &Path, report: &mut Report) -> Option<Vec<(String, Option<String>)>> {
    let Value::Mapping(all) = value else {
        report.add(at, format!("additional_parameters is {}, but must be a map", shown(value)));
        return None;
    };
    let mut found = Vec::new();
    for (key, value) in all {
        let name = key.as_str().unwrap_or_default().replace('_', "-");
        let at = at.key(key.as_str().unwrap_or_default());
        if !name.starts_with(|c: char| c.is_ascii_lowercase())
            || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        {
            report.add(
                &at,
                format!("{} is no long option of sbatch; write its name without `--`, such as `mail-user`", shown(key)),
            );
            continue;
        }
        let field = TEXTS.iter().find(|(_, option)| *option == name).map(|(field, _)| Some(*field));
        match field.or_else(|| OWN.iter().find(|(option, _)| *option == name).map(|(_, field)| *field)) {
            Some(Some(field)) => report.add(&at, format!("`{name}` has a field of its own; write `{field}` beside additional_parameters")),
            Some(None) => report.add(&at, format!("`{name}` is given by the launcher, which needs it as it is; leave it out, or submit a copy of launchers/slurm.sub")),
            None if *value == Value::Bool(true) => found.push((name, None)),
            None => found.extend(line(value, &at, report).map(|text| (name, Some(text)))),
        }
    }
    Some(found)
}
