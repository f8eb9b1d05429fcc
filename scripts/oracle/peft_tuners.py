"""Tuners of PEFT other than LoRA's kin, both ways.

    python scripts/oracle/peft_tuners.py
    python scripts/oracle/peft_tuners.py --binary target/release/lora-lab
    python scripts/oracle/peft_tuners.py --later [--binary target/release/lora-lab]     of PEFT 0.21.2, which has GraLoRA, HiRA and DeLoRA

Without an argument, adapters as PEFT saves them, on the checkpoint `bert` of models.py, are written to
crates/interop/tests/fixtures/peft_tuners, as peft_adapters.py writes LoRA's:

    <case>/adapter_config.json, adapter_model.safetensors   as `save_pretrained` writes them
    <case>/expected.safetensors                             inputs, and PEFT's logits of the folder when it is opened again

With the program, every variant that one of these tuners can express is trained for a few steps on tiny models (BERT, RoBERTa, Llama),
exported, and opened by `PeftModel.from_pretrained`: the keys that PEFT holds are those of the file with the same bits, and the logits agree
with `lora-lab predict` to 1e-5 of the largest; an import of the export has the same tensors to the bit.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from peft_adapters import BASES, ROOT, base

import peft
import torch
from peft import (
    BOFTConfig,
    C3AConfig,
    HRAConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    MissConfig,
    OFTConfig,
    PeftModel,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from transformers.utils import logging

FOLDER = ROOT / "crates/interop/tests/fixtures/peft_tuners"
PAIR = {"target_modules": ["query", "intermediate.dense"]}
# Configuration, and how far from its start each number is drawn.
CASES = {
    "bert_loha": (LoHaConfig(r=3, alpha=6, rank_pattern={"query": 2}, alpha_pattern={"1.attention.self.query": 5}, **PAIR), 0.5),
    "bert_ia3": (IA3Config(target_modules=["key", "value", "output.dense"], feedforward_modules=["output.dense"]), 0.3),
    "bert_hra": (HRAConfig(r=4, **PAIR), 0.1),
    "bert_oft": (OFTConfig(oft_block_size=4, **PAIR), 0.1),
    "bert_oft_exact": (OFTConfig(oft_block_size=6, use_cayley_neumann=False, **PAIR), 0.1),
    "bert_lokr": (LoKrConfig(r=2, alpha=4, **PAIR), 0.3),
    "bert_lokr_both": (LoKrConfig(r=2, alpha=4, decompose_both=True, decompose_factor=8, **PAIR), 0.3),
    "bert_lokr_whole": (LoKrConfig(r=8, alpha=4, decompose_factor=4, **PAIR), 0.3),
    "bert_miss": (MissConfig(r=5, **PAIR), 0.1),
    "bert_miss_mini": (MissConfig(r=4, mini_r=8, init_weights="mini", **PAIR), 0.1),
    "bert_bat": (MissConfig(r=4, init_weights="bat", **PAIR), 0.1),
    "bert_boft": (BOFTConfig(boft_block_size=4, **PAIR), 0.2),
    "bert_c3a": (C3AConfig(block_size=4, block_size_pattern={"query": 8}, **PAIR), 2.0),
}


# Of tuners that PEFT 0.18.1 does not have.
LATER = {
    "bert_gralora": ("GraloraConfig", {"r": 4, "alpha": 6, "gralora_k": 2}, 0.3),
    "bert_gralora_four": ("GraloraConfig", {"r": 8, "alpha": 4, "gralora_k": 4}, 0.3),
    "bert_hira": ("HiraConfig", {"r": 3}, 0.5),  # its dispatcher passes over `rank_pattern`
    "bert_delora": ("DeloraConfig", {"r": 3, "rank_pattern": {"query": 2}}, 0.5),
    "bert_vblora": ("VBLoRAConfig", {"r": 3, "num_vectors": 9, "vector_length": 8, "topk": 2}, 0.7),
}


def write(case, config, noise, seed):
    config.task_type = "SEQ_CLS"
    torch.manual_seed(seed)  # of PEFT's own starts
    model = get_peft_model(base("bert"), config)
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            parameter.data += noise * torch.randn(parameter.shape, generator=generator)
    folder = FOLDER / case
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    said = json.loads(path.read_text())
    # A path of the machine, and sets, which have another order in every process.
    said["base_model_name_or_path"] = "bert"
    for key in ("target_modules", "exclude_modules", "modules_to_save", "feedforward_modules"):
        if isinstance(said.get(key), list):
            said[key] = sorted(said[key])
    path.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")

    inputs = load_file(BASES / "bert" / "expected.safetensors")
    asked = {name: inputs[name] for name in ("input_ids", "type_ids", "lengths")}
    mask = (torch.arange(asked["input_ids"].shape[1])[None] < asked["lengths"][:, None]).long()
    given = {"input_ids": asked["input_ids"].long(), "attention_mask": mask, "token_type_ids": asked["type_ids"].long()}
    with torch.no_grad():
        opened, plain = PeftModel.from_pretrained(base("bert"), folder).eval(), base("bert")
        plain.classifier.load_state_dict(opened.base_model.model.classifier.modules_to_save["default"].state_dict())
        logits = opened(**given).logits
        assert (logits - plain(**given).logits).abs().max() > 0.01, f"{case}: the adapter changes nothing"
    save_file(asked | {"logits": logits.contiguous()}, folder / "expected.safetensors")
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert size < 100_000, f"{case}: {size} bytes"


class BlockDiagonal:
    """What the CUDA kernel of PEFT's BOFT computes: without that PEFT falls back to one butterfly factor."""

    @staticmethod
    def apply(factors):
        return torch.stack([torch.block_diag(*torch.unbind(blocks)) for blocks in factors])


def exports(args):
    import peft_both_ways as both
    from peft.tuners.boft import layer as boft

    boft.get_fbd_cuda, boft.FastBlockDiag = lambda: True, BlockDiagonal
    both.TOLERANCE = 1e-5
    names = {
        "bert": (["query", "intermediate.dense"], ["key", "value", "output.dense"]),
        "roberta": (["query", "intermediate.dense"], ["key", "value", "output.dense"]),
        "llama": (["q_proj", "up_proj"], ["k_proj", "v_proj", "down_proj"]),
    }
    with tempfile.TemporaryDirectory() as at:
        root = Path(at)
        both.rows(root / "glue")
        for kind, (pair, gains) in names.items():
            if args.only and kind not in args.only:
                continue
            (root / kind).mkdir()
            both.tiny(kind, root / kind)
            bench = both.Bench(args, kind, root / kind, root / "glue", root / f"{kind}.work", 12)
            variants = [{"preset": name, "targets": pair} for name in ("loha", "hra", "oft", "lokr", "miss", "bone", "boft", "c3a")]
            if args.later:
                variants = [
                    {"preset": "gralora", "targets": pair, "ranks": [4]},
                    {"preset": "gralora", "label": "gralora_four", "targets": pair, "ranks": [4], "with": {"delta": {"blocks": 4}}},
                    {"preset": "hira", "targets": pair},
                    {"preset": "delora", "targets": pair},
                    {"preset": "delora", "label": "delora_zero", "targets": pair, "with": {"delta": {"start": "zero"}}},
                    {"preset": "shira", "targets": pair, "ranks": [2]},
                    {"preset": "randlora", "targets": pair},
                    {"preset": "vb_lora", "targets": pair, "ranks": [2], "with": {"delta": {"vector_length": 8}}},
                    {"preset": "lora", "label": "lora_tokens", "targets": pair, "trainable_token_indices": [5, 2, 9]},
                ]
            variants += [] if args.later else [
                {"preset": "ia3", "targets": gains},
                {"preset": "boft", "label": "boft_one", "targets": pair, "with": {"delta": {"butterfly_factors": 1}}},
                {"preset": "oft", "label": "oft_exact", "targets": pair, "with": {"delta": {"cayley": "exact"}}},
                {"preset": "miss", "label": "miss_mini", "targets": pair, "with": {"delta": {"columns": 8}}},
                {"preset": "lokr", "label": "lokr_both", "targets": pair, "with": {"delta": {"decompose_both": True}}},
                {"preset": "loha", "label": "loha_ranks", "targets": pair, "rank_pattern": {pair[0]: 2}, "alpha_pattern": {pair[1]: 5}},
            ]
            for run in bench.ours(variants):
                what = run.name.split("-")[1]
                # DeLoRA's subtracted start comes back as components of its own.
                bench.export(run, what, exact=what != "delora")
            print(f"{kind}: {bench.checked} comparisons, largest difference of logits {bench.worst:.1e}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--later", action="store_true")
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    if args.binary:
        args.binary = args.binary.resolve()
        return exports(args)
    if args.later:
        for seed, (case, (config, given, noise)) in enumerate(LATER.items(), start=100):
            write(case, getattr(peft, config)(**given, **PAIR), noise, seed)
        return None
    for seed, (case, (config, noise)) in enumerate(CASES.items(), start=1):
        shutil.rmtree(FOLDER / case, ignore_errors=True)
        write(case, config, noise, seed)


if __name__ == "__main__":
    main()
