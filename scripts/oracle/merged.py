"""Opens merged checkpoints with transformers: every key is there and none is too many, and the logits are those of base and adapter.

    LORA_LAB_MERGED=DIR cargo test --release --workspace --test merge
    python scripts/oracle/merged.py DIR

DIR has the merged fixtures and, beside each, `<name>.safetensors` with input_ids, type_ids, lengths and the unmerged logits in f32.

    lora-lab predict --adapter RUN --data RTE/dev.tsv --out unmerged.safetensors
    lora-lab merge RUN --out merged
    python scripts/oracle/merged.py merged --data RTE/dev.tsv --columns sentence1 sentence2 --logits unmerged.safetensors

compares a merged run on the rows of a file, read with the tokenizer that lies in the folder.
"""

import argparse
import csv
import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

TOLERANCE = 1e-5  # of the largest logit: f32 on both sides, sums in another order


def opened(folder):
    config = json.loads((folder / "config.json").read_text())
    is_classifier = config["architectures"][0].endswith("ForSequenceClassification")
    kind = AutoModelForSequenceClassification if is_classifier else AutoModelForCausalLM
    model, info = kind.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info[key], f"{folder}: {key}: {info[key]}"
    assert type(model).__name__ == config["architectures"][0], type(model)
    return model.eval(), is_classifier


def report(folder, found, wanted):
    gap, largest = (found - wanted).abs().max().item(), wanted.abs().max().item()
    assert found.shape == wanted.shape and gap <= TOLERANCE * largest, f"{folder}: {gap} of {largest}"
    print(f"{folder.name}: {tuple(found.shape)} logits, largest difference {gap:.2e} of {largest:.3g}")


def fixture(folder, path):
    """Rows of a fixture: the logits of every row, or of every real position."""
    model, is_classifier = opened(folder)
    rows = load_file(path)
    lengths = rows["lengths"].long()
    ids = rows["input_ids"].long()
    mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
    inputs = {"input_ids": ids, "attention_mask": mask.long()}
    if "type_ids" in rows:
        inputs["token_type_ids"] = rows["type_ids"].long()
    with torch.no_grad():
        logits = model(**inputs).logits
    report(folder, (logits if is_classifier else logits[mask]).flatten(), rows["logits"])


def of_file(folder, data, columns, logits):
    model, _ = opened(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with open(data, newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    wanted = load_file(logits)["logits"]
    assert len(rows) == len(wanted), f"{len(rows)} rows, {len(wanted)} logits"
    found = []
    for start in range(0, len(rows), 32):
        texts = [[row[column] for row in rows[start : start + 32]] for column in columns]
        inputs = tokenizer(*texts, truncation="longest_first", max_length=128, padding=True, return_tensors="pt")
        with torch.no_grad():
            found.append(model(**inputs).logits)
    report(folder, torch.cat(found), wanted)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--columns", nargs="+")
    parser.add_argument("--logits", type=Path)
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    if args.data:
        of_file(args.folder, args.data, args.columns, args.logits)
        return
    pairs = [(path.with_suffix(""), path) for path in sorted(args.folder.glob("*.safetensors"))]
    assert pairs, f"{args.folder}: nothing to compare"
    for folder, path in pairs:
        fixture(folder, path)


if __name__ == "__main__":
    main()
