"""Adapters as PEFT saves them, on the checkpoints of models.py, written to crates/interop/tests/fixtures/peft.

    <case>/adapter_config.json, adapter_model.safetensors   as `save_pretrained` writes them
    <case>/expected.safetensors                             inputs, and PEFT's logits of the folder when it is opened again

The name of a case begins with its base, a folder of crates/models/tests/fixtures. Run `models.py` first.
"""

import json
import os
import shutil
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, VeraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.utils import logging

ROOT = Path(__file__).resolve().parents[2]
BASES = ROOT / "crates/models/tests/fixtures"
FOLDER = ROOT / "crates/interop/tests/fixtures/peft"
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["query", "value"]}
WIDE = ["query", "intermediate.dense", "attention.output.dense"]
CASES = {
    "bert_lora": LoraConfig(**LORA),
    # Both keys match the value map of the first layer; the first that stands in the file counts.
    "bert_rslora": LoraConfig(
        **LORA,
        use_rslora=True,
        rank_pattern={"0.attention.self.value": 3, "value": 2},
        alpha_pattern={"0.attention.self.value": 5, "value": 2.5},
    ),
    "bert_dora": LoraConfig(**LORA, use_dora=True),
    "bert_vera": VeraConfig(r=5, target_modules=WIDE),
    "bert_adalora": AdaLoraConfig(init_r=4, target_r=2, total_step=10, lora_alpha=8, target_modules=["query", "value"]),
    "bert_pissa": LoraConfig(**LORA, init_lora_weights="pissa"),
    "bert_everywhere": LoraConfig(**LORA | {"target_modules": "all-linear"}, bias="all"),
    "bert_saved": LoraConfig(**LORA, modules_to_save=["pooler"]),
    "bert_table": LoraConfig(**LORA | {"target_modules": ["word_embeddings", "value"]}),
    "roberta_dora": LoraConfig(**LORA | {"target_modules": WIDE}, use_dora=True),
    "gpt2_lora": LoraConfig(r=4, lora_alpha=8, target_modules=["c_attn"], fan_in_fan_out=True),
    "llama_lora": LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], layers_to_transform=[1]),
    "bert_tokens": LoraConfig(**LORA, trainable_token_indices=[7, 2, 11]),
    # Of a table that is the output projection too, PEFT ties both.
    "gpt2_tokens": LoraConfig(r=4, lora_alpha=8, target_modules=["c_attn"], fan_in_fan_out=True, trainable_token_indices=[3, 9, 14]),
}


def base(arch):
    kind = AutoModelForCausalLM if arch in ("gpt2", "llama") else AutoModelForSequenceClassification
    return kind.from_pretrained(BASES / arch, dtype=torch.float32, attn_implementation="eager").eval()


def moved(model, seed):
    """Draws a little onto everything that trains, so that nothing is at its start."""
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)


def prune(model):
    """AdaLoRA's end: components are dropped, two of four in most maps and all but one in the first."""
    pattern = {}
    for at, (name, parameter) in enumerate(sorted(model.base_model.model.named_parameters())):
        if "lora_E" in name:
            keep = [i in (1, 3) if pattern else i == 2 for i in range(parameter.shape[0])]
            parameter.data *= torch.tensor(keep, dtype=torch.float32)[:, None]
            pattern[name] = keep
    model.peft_config["default"].rank_pattern = pattern


def write(case, config, seed):
    arch = case.split("_")[0]
    is_text = arch in ("gpt2", "llama")
    config.task_type = "CAUSAL_LM" if is_text else "SEQ_CLS"
    torch.manual_seed(seed)  # of PEFT's own starts
    model = get_peft_model(base(arch), config)
    moved(model, seed)
    if case == "bert_adalora":
        prune(model)
    folder = FOLDER / case
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    said = json.loads(path.read_text())
    # A path of the machine, and sets, which have another order in every process.
    said["base_model_name_or_path"] = arch
    for key in ("target_modules", "exclude_modules", "modules_to_save"):
        said[key] = sorted(said[key]) if isinstance(said.get(key), list) else said.get(key)
    path.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")

    inputs = load_file(BASES / arch / "expected.safetensors")
    asked = {name: inputs[name] for name in ("input_ids", "type_ids", "lengths") if name in inputs}
    mask = (torch.arange(asked["input_ids"].shape[1])[None] < asked["lengths"][:, None]).long()
    types = {"token_type_ids": asked["type_ids"].long()} if "type_ids" in asked else {}
    with torch.no_grad():
        opened = PeftModel.from_pretrained(base(arch), folder).eval()
        logits, plain = (
            one(input_ids=asked["input_ids"].long(), attention_mask=mask, **types).logits for one in (opened, base(arch))
        )
    assert (logits - plain).abs().max() > 0.1, f"{case}: the adapter changes nothing"
    real = mask.bool()[..., None] if is_text else torch.ones(())
    save_file(asked | {"logits": (logits * real).contiguous()}, folder / "expected.safetensors")
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert size < 100_000, f"{case}: {size} bytes"


def main():
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    shutil.rmtree(FOLDER, ignore_errors=True)
    for seed, (case, config) in enumerate(CASES.items(), start=1):
        write(case, config, seed)


if __name__ == "__main__":
    main()
