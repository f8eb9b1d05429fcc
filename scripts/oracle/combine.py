"""Combinations of three adapters of one tiny BERT by PEFT, written to crates/interop/tests/fixtures/combine.

    first, second, third/   adapters as PEFT's `save_pretrained` writes them: the first with patterns of rank and alpha, the second
                            with rsLoRA, the third on query alone
    expected.safetensors    `<method>.<map>` [d_out, d_in] in f64, from the functions of peft.utils.merge_utils on the dense updates

Weights and density are those of the constants below. PEFT's `add_weighted_adapter` is not asked, for the reasons that `departures`
holds it to.
"""

import json
import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.utils.merge_utils import magnitude_prune, random_pruning, task_arithmetic, ties
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification

FOLDER = Path(__file__).resolve().parents[2] / "crates/interop/tests/fixtures/combine"
WEIGHTS = {"first": 0.7, "second": -0.4, "third": 1.2}
DENSITY = 0.3
RANK = 3  # of the truncated sum
CONFIG = {"vocab_size": 8, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
ADAPTERS = {
    "first": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["query", "value"],
        "rank_pattern": {"value": 2},
        "alpha_pattern": {"attention.self.value": 5},
    },
    "second": {"r": 3, "lora_alpha": 5, "target_modules": ["query", "value"], "use_rslora": True},
    "third": {"r": 2, "lora_alpha": 2, "target_modules": ["query"]},
}


def base():
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(max_position_embeddings=8, **CONFIG)).eval()


def adapter(name, seed):
    """Draws an adapter and writes it."""
    config = LoraConfig(task_type=TaskType.SEQ_CLS, lora_dropout=0.0, **ADAPTERS[name])
    tuned = get_peft_model(base(), config, adapter_name=name)
    generator = torch.Generator().manual_seed(seed)
    for key, parameter in sorted(tuned.named_parameters()):
        if "lora_" in key or "modules_to_save" in key:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    tuned.save_pretrained(FOLDER, save_embedding_layers=False)  # into a folder of the adapter's name
    (FOLDER / "README.md").unlink(missing_ok=True)
    (FOLDER / name / "README.md").unlink(missing_ok=True)
    path = FOLDER / name / "adapter_config.json"
    said = json.loads(path.read_text()) | {"base_model_name_or_path": None}
    for key, value in said.items():
        if isinstance(value, list):
            said[key] = sorted(value)  # written from a set, whose order changes from run to run
    path.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")


def layers(model):
    return {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight") and hasattr(module, "lora_A")
    }


def departures():
    """Where PEFT 0.18.1 does other than it says: its DARE does not rescale, and its kinds with SVD apply the scale twice."""
    values = torch.randn(50, 50)
    kept = random_pruning(values, 0.5, rescale=True)
    assert torch.equal(kept[kept != 0], values[kept != 0])
    config = LoraConfig(r=2, lora_alpha=8, target_modules=["query"], init_lora_weights=False)
    tuned = get_peft_model(base(), config)
    tuned.add_adapter("other", config)
    tuned.base_model.add_weighted_adapter(
        ["default", "other"], [1.0, 0.0], "again", combination_type="svd", svd_rank=4
    )
    for layer in layers(tuned).values():
        scale = layer.scaling["default"]
        torch.testing.assert_close(layer.get_delta_weight("again"), scale * layer.get_delta_weight("default"))


def main():
    torch.set_num_threads(1)
    departures()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for seed, name in enumerate(ADAPTERS):
        adapter(name, seed + 1)

    model = PeftModel.from_pretrained(base(), FOLDER / "first", adapter_name="first")
    for name in ("second", "third"):
        model.load_adapter(FOLDER / name, adapter_name=name)
    model = model.double().eval()
    expected = {}
    with torch.no_grad():
        for name, layer in layers(model).items():
            there = [key for key in ADAPTERS if key in layer.lora_A]
            deltas = [layer.get_delta_weight(key) for key in there]
            weights = torch.tensor([WEIGHTS[key] for key in there], dtype=torch.float64)
            name = name.removeprefix("bert.")
            expected[f"linear.{name}"] = task_arithmetic(deltas, weights)
            expected[f"magnitude_prune.{name}"] = magnitude_prune(deltas, weights, DENSITY)
            for election in ("total", "frequency"):
                expected[f"ties_{election}.{name}"] = ties(deltas, weights, DENSITY, election)
            u, s, v = torch.linalg.svd(expected[f"linear.{name}"])
            expected[f"svd.{name}"] = u[:, :RANK] * s[:RANK] @ v[:RANK]
    save_file({key: value.contiguous() for key, value in expected.items()}, FOLDER / "expected.safetensors")


if __name__ == "__main__":
    main()
