"""Read what the program writes for others with the others' own readers: TensorBoard's event files, the hub's model cards and results.

Writes into target/readers_check and nothing else. The study is a committed one for the event files; for a card a tiny study is trained,
since adapters are not committed.
"""

import argparse
import json
import math
import pathlib
import shutil
import subprocess
import sys

import yaml
from huggingface_hub import ModelCard
from huggingface_hub._eval_results import parse_eval_result_entries
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "target" / "readers_check"

STUDY = """suite: glue_mini
model: mini_roberta
tasks: [rte]
seeds: [0, 1, 2]
targets: [query, value]
train: {steps: 4, batch: 8, learning_rate: 1e-3}
variants: [{preset: lora, ranks: [2]}]
"""


def lab(binary: pathlib.Path, *arguments: object) -> str:
    done = subprocess.run([binary, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{arguments}: {done.stderr}")
    return done.stdout


def opened(folder: pathlib.Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def hparams(events: EventAccumulator, tag: str) -> plugin_data_pb2.HParamsPluginData:
    return plugin_data_pb2.HParamsPluginData.FromString(events.SummaryMetadata(f"_hparams_/{tag}").plugin_data.content)


def event_files(binary: pathlib.Path, study: str) -> None:
    """Every number of every record is in the event files, at its step."""
    lab(binary, "tensorboard", study, "--out", OUT)
    folder = OUT / study
    top = opened(folder)
    text = tensor_util.make_ndarray(top.Tensors("experiment")[0].tensor_proto).item().decode()
    written = (ROOT / "experiments" / f"{study}.yaml").read_text(encoding="utf-8")
    assert [line[4:] for line in text.splitlines()] == written.splitlines(), "the YAML is another"
    metrics = {metric.name.tag for metric in hparams(top, "experiment").experiment.metric_infos}
    scalars = 0
    runs = sorted((ROOT / "results" / study / "runs").glob("*/record.json"))
    for path in runs:
        record = json.loads(path.read_text(encoding="utf-8"))
        events = opened(folder / path.parent.name)
        steps = record["steps"]
        for tag, column in [("loss", "task_loss"), ("learning_rate", "learning_rate"), ("gradient_norm", "gradient_norm")]:
            found = events.Scalars(f"train/{tag}")
            assert [event.step for event in found] == steps["step"], path
            assert all(math.isclose(event.value, wanted, rel_tol=1e-6) for event, wanted in zip(found, steps[column])), (path, tag)
            assert all(record["started"] <= event.wall_time <= record["finished"] for event in found), (path, tag)
            scalars += len(found)
        cell = record["cell"]
        for evaluation in record["evaluations"]:
            readout = evaluation["readout"]
            is_own = (readout["label"], readout["rank"]) == (cell["variant"], cell["rank"])
            end = "" if is_own else f"/{readout['label']}-r{readout['rank']}"
            for metric, value in evaluation["metrics"].items():
                found = [e.value for e in events.Scalars(f"{evaluation['split']}/{metric}{end}") if e.step == evaluation["step"]]
                assert any(math.isclose(value, one, rel_tol=1e-6) for one in found), (path, evaluation)
                scalars += 1
        start = hparams(events, "session_start_info").session_start_info
        assert start.hparams["train.learning_rate"].number_value == record["spec"]["train"]["learning_rate"], path
        assert start.hparams["label"].string_value == cell["variant"] and not start.hparams["seeds.init"].HasField("kind"), path
        assert hparams(events, "session_end_info").session_end_info.status == 1, path
        assert metrics & set(events.Tags()["scalars"]), path
    print(f"TensorBoard: {scalars} numbers of {len(runs)} runs of {study} are those of the records")


def cards(binary: pathlib.Path) -> None:
    """A card's results are the mean over the seeds of the adapter's group."""
    study, results = OUT / "tiny.yaml", OUT / "results"
    study.write_text(STUDY, encoding="utf-8")
    lab(binary, "--results", results, "run", study)
    runs = results / "tiny" / "runs"
    lab(binary, "export", runs / "rte-lora-r2-s1", "--to", "peft", "--out", OUT / "for_peft")
    values = []
    for path in sorted(runs.glob("*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        values.append(record["evaluations"][-1]["metrics"]["accuracy"])
    card = ModelCard.load(OUT / "for_peft" / "README.md")
    assert card.data.library_name == "peft" and card.data.pipeline_tag == "text-classification"
    assert {"lora", "lora-lab"} <= set(card.data.tags), card.data.tags
    results = [result for result in card.data.eval_results if result.metric_type == "accuracy"]
    assert len(results) == 1, results
    (result,) = results
    assert math.isclose(result.metric_value, sum(values) / len(values)), (result.metric_value, values)
    assert result.metric_args["n"] == 3 and result.metric_args["interval"][0] < result.metric_value
    print(f"the hub's ModelCard: {result.metric_type} {result.metric_value:.4f}, n = {result.metric_args['n']}")
    # A task of this program's own is no data set of the hub.
    assert not (OUT / "for_peft" / ".eval_results").exists()


def results_file() -> None:
    """The hub's own reader takes the file of results that a test of the program has pinned."""
    fixture = ROOT / "crates/interop/tests/fixtures/eval_results.yaml"
    (entry,) = parse_eval_result_entries(yaml.safe_load(fixture.read_text(encoding="utf-8")))
    assert (entry.dataset_id, entry.task_id) == ("nyu-mll/glue", "mnli") and isinstance(entry.value, float), entry
    print(f"the hub's EvalResultEntry: {entry.dataset_id} {entry.task_id} {entry.value}: {entry.notes}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=ROOT / "target/release/lora-lab", type=pathlib.Path)
    parser.add_argument("--study", default="dylora_glue")
    arguments = parser.parse_args()
    binary = arguments.binary.resolve()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    event_files(binary, arguments.study)
    cards(binary)
    results_file()


if __name__ == "__main__":
    main()
