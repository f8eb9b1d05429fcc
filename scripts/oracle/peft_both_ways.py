"""Adapters to PEFT and back, held against PEFT itself.

    python scripts/oracle/peft_both_ways.py --binary target/release/lora-lab
    python scripts/oracle/peft_both_ways.py --binary target/release/lora-lab --minilm models/all-MiniLM-L6-v2 --glue data/glue

Four tiny random models (BERT, RoBERTa, GPT-2, Llama) with a tokenizer of a few words, and the real MiniLM where it is given. For each:

1. every variant that PEFT can express is trained by the program for a few steps, exported, opened by `PeftModel.from_pretrained`; the keys
   PEFT holds are those of the file with the same bits, and the logits agree with `lora-lab predict`;
2. adapters made by PEFT are read by `lora-lab predict` and `import`; the logits agree with PEFT's;
3. export, import, export (and import, export of PEFT's own) give the same tensors to the bit.

Logits are held to 1e-4 of a largest logit of about 1: f32 on both sides, sums in another order, GPT-2's and MiniLM's six layers deep.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, VeraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)
from transformers.utils import logging

TOLERANCE = 1e-4
WORDS = [f"w{i}" for i in range(40)]
# PEFT 0.18 saves VeRA's pair and never loads it; an export has it a second time under the name that is loaded (`.default`).
SPECIAL = {"bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "roberta": ["<pad>", "<unk>", "<s>", "</s>"]}
DECODER = ["<pad>", "<unk>", "<s>", "</s>"]


def tokenizer(kind, folder):
    special = SPECIAL.get(kind, DECODER)
    vocabulary = {word: i for i, word in enumerate(special + WORDS)}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token=special[1]))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind in SPECIAL:
        start, end = special[2], special[3]
        fast.post_processor = processors.TemplateProcessing(
            single=f"{start} $A {end}",
            pair=f"{start} $A {end} $B:1 {end}:1",
            special_tokens=[(start, 2), (end, 3)],
        )
    PreTrainedTokenizerFast(tokenizer_object=fast, pad_token=special[0], unk_token=special[1]).save_pretrained(folder)
    return len(vocabulary)


def tiny(kind, folder):
    """A tiny random model of a kind, with maps of unlike widths."""
    words = tokenizer(kind, folder)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
    encoder = {**sizes, "vocab_size": words, "max_position_embeddings": 40, "initializer_range": 0.3, "pad_token_id": 0}
    config = {
        "bert": lambda: BertConfig(**encoder),
        "roberta": lambda: RobertaConfig(**encoder, type_vocab_size=1),
        "gpt2": lambda: GPT2Config(
            n_embd=24, n_layer=2, n_head=4, n_inner=40, vocab_size=words, n_positions=40, initializer_range=0.3,
            pad_token_id=0, bos_token_id=2, eos_token_id=3,
        ),
        "llama": lambda: LlamaConfig(
            **sizes, num_key_value_heads=2, vocab_size=words, max_position_embeddings=40, initializer_range=0.3,
            pad_token_id=0, tie_word_embeddings=True,
        ),
    }[kind]()
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name or "orm" in name or "ln_" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.base_model.save_pretrained(folder)


def rows(folder):
    """CoLA's layout, of made words: four columns, no header."""
    draw = random.Random(3)
    (folder / "CoLA").mkdir(parents=True)
    for name, count in [("train", 96), ("dev", 24)]:
        lines = []
        for _ in range(count):
            words = [draw.choice(WORDS) for _ in range(draw.randint(3, 14))]
            lines.append(f"made\t{int(sum(int(w[1:]) for w in words) % 2)}\t\t{' '.join(words)}\n")
        (folder / "CoLA" / f"{name}.tsv").write_text("".join(lines))


class Bench:
    """One model and what is asked of it."""

    def __init__(self, args, name, model, glue, work, steps):
        self.binary, self.name, self.model, self.glue, self.work, self.steps = args.binary, name, model, glue, work, steps
        self.work.mkdir()
        self.dev = glue / "CoLA" / "dev.tsv"
        with open(self.dev, newline="") as file:
            self.texts = [row[3] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][:200]
        if len(self.texts) < sum(1 for _ in open(self.dev)):
            self.dev = work / "dev.tsv"
            self.dev.write_text("".join(open(glue / "CoLA" / "dev.tsv").readlines()[:200]))
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.length = 128 if name == "minilm" else 32
        self.worst = 0.0
        self.checked = 0

    def lab(self, *words):
        done = subprocess.run([self.binary, *map(str, words)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{self.name}: lora-lab {' '.join(map(str, words))}\n{done.stderr}")
        return done

    def base(self):
        torch.manual_seed(7)
        config = AutoConfig.from_pretrained(self.model, num_labels=2)
        config._attn_implementation = "eager"
        return AutoModelForSequenceClassification.from_pretrained(self.model, config=config, dtype=torch.float32).eval()

    def logits(self, model):
        found = []
        with torch.no_grad():
            for start in range(0, len(self.texts), 25):
                inputs = self.tokenizer(
                    self.texts[start : start + 25], truncation=True, max_length=self.length, padding=True, return_tensors="pt"
                )
                inputs.pop("token_type_ids") if self.name in ("gpt2", "llama", "roberta") and "token_type_ids" in inputs else None
                found.append(model.eval()(**inputs).logits)
        return torch.cat(found)

    def predicted(self, *words):
        out = self.work / "logits.safetensors"
        self.lab("predict", *words, "--data", self.dev, "--out", out)
        return load_file(out)["logits"]

    def agree(self, what, found, wanted):
        gap, largest = (found - wanted).abs().max().item(), max(1.0, wanted.abs().max().item())
        assert found.shape == wanted.shape and gap <= TOLERANCE * largest, f"{self.name}: {what}: {gap} of {largest}"
        self.worst, self.checked = max(self.worst, gap / largest), self.checked + 1

    def same(self, what, found, wanted):
        found = {key: value for key, value in found.items() if not key.endswith(".default")}
        wanted = {key: value for key, value in wanted.items() if ".original_module." not in key and ".modules_to_save." not in key}
        assert found.keys() == wanted.keys(), f"{self.name}: {what}: {found.keys() ^ wanted.keys()}"
        for key in wanted:
            assert torch.equal(found[key], wanted[key]), f"{self.name}: {what}: {key}"
        self.checked += 1

    def opened(self, what, folder):
        """PEFT's model of a folder, after its keys were compared with the file's."""
        model = PeftModel.from_pretrained(self.base(), folder)
        held, file = get_peft_model_state_dict(model), load_file(folder / "adapter_model.safetensors")
        saved = dict(model.named_parameters())
        for key, value in file.items():
            if key in ("base_model.vera_A.default", "base_model.vera_B.default"):
                value_held = held[key.removesuffix(".default")]
            elif key.endswith("base_layer.bias"):  # PEFT's own `lora_only` saves none, but holds them
                value_held = saved[key]
            elif key in held:
                value_held = held[key]
            else:
                raise AssertionError(f"{self.name}: {what}: PEFT does not hold {key}")
            assert torch.equal(value_held, value), f"{self.name}: {what}: {key} is not the file's"
        # With `bias="all"` PEFT counts the two copies of a wrapped head's bias as biases, and does not save them under these names.
        # RandLoRA's pair is one tensor that every map refers to; PEFT saves it once for the model, and again for every map.
        twice = (".original_module.", ".modules_to_save.")
        pair = (".randlora_A", ".randlora_B")
        missing = {key for key in set(held) - set(file) if not any(part in key for part in twice) and not key.endswith(pair)}
        assert not missing, f"{self.name}: {what}: the file lacks {missing}"
        return model

    def ours(self, variants):
        """Runs of this program."""
        experiment = self.work / "study.yaml"
        lines = [
            "suite: glue", f"data: {self.glue}", f"model: {self.model}", "tasks: [cola]", "seeds: [0]", "ranks: [4]",
            f"train: {{steps: {self.steps}, batch: 16, max_length: {self.length}, learning_rate: 2e-2, head_learning_rate: 2e-2}}", "variants:",
        ]
        lines += [f"  - {json.dumps(variant)}" for variant in variants]
        experiment.write_text("\n".join(lines) + "\n")
        self.lab("run", experiment, "--results", self.work / "results", "--device", "cpu")
        runs = sorted((self.work / "results" / "study" / "runs").iterdir())
        assert len(runs) == len(variants), runs
        return runs

    def export(self, run, what, *options, exact=True):
        """Opens an export, and takes it back."""
        folder = self.work / f"{what}.peft"
        self.lab("export", run, "--to", "peft", "--out", folder, *options)
        model = self.opened(what, folder)
        again = self.work / f"{what}.again"
        self.lab("import", folder, "--out", again) if "--svd" not in options else self.lab(
            "import", folder, "--out", again, "--task", "cola", "--model", self.model
        )
        wanted = self.predicted("--adapter", again)
        self.agree(what, self.logits(model), wanted)
        if "--svd" not in options and "--rank" not in options:
            self.agree(f"{what}, before", self.predicted("--adapter", run), wanted)
        if exact:
            self.same(f"{what}, back", load_file(again / "adapter.safetensors"), load_file(run / "adapter.safetensors"))
        if "--svd" not in options:
            twice = self.work / f"{what}.twice"
            self.lab("export", again, "--to", "peft", "--out", twice, *[o for o in options if o == "--residual"])
            files = [(at / "adapter_model.safetensors").read_bytes() for at in (folder, twice)]
            assert files[0] == files[1], f"{self.name}: {what}: a second export has other bytes"
            self.checked += 1

    def theirs(self, what, config, tune=None):
        """An adapter that PEFT made."""
        torch.manual_seed(11)
        model = get_peft_model(self.base(), config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.add_(0.05 * torch.randn_like(parameter))
        if tune:
            tune(model)
        folder = self.work / f"{what}.theirs"
        model.save_pretrained(folder)
        wanted = self.logits(model)
        self.agree(what, self.predicted("--adapter", folder, "--model", self.model, "--task", "cola"), wanted)
        taken, back = self.work / f"{what}.taken", self.work / f"{what}.back"
        self.lab("import", folder, "--model", self.model, "--task", "cola", "--out", taken)
        residual = ["--residual"] if isinstance(getattr(config, "init_lora_weights", None), str) else []
        self.lab("export", taken, "--to", "peft", "--out", back, *residual)
        self.same(f"{what}, back", load_file(back / "adapter_model.safetensors"), load_file(folder / "adapter_model.safetensors"))
        self.agree(f"{what}, reopened", self.logits(self.opened(what, back)), wanted)


def prune(model):
    """AdaLoRA's end: components of every map but two are dropped."""
    pattern = {}
    with torch.no_grad():
        for name, parameter in model.base_model.model.named_parameters():
            if "lora_E" in name:
                keep = [i in (1, 3) for i in range(parameter.shape[0])]
                parameter *= torch.tensor(keep, dtype=torch.float32)[:, None]
                pattern[name] = keep
    model.peft_config["default"].rank_pattern = pattern


def study(bench, query, value, wide, norms, ends, is_real):
    pair = [query, value]
    common = {"targets": pair}
    variants = [
        {"preset": name, "targets": pair} for name in ("lora", "rslora", "lora_plus", "lora_fa", "dora", "dylora", "pissa", "milora", "olora")
    ]
    variants += [
        {"preset": "vera", "targets": [query, *wide]},
        {"preset": "adalora", "targets": pair, "with": {"rank_policy": {"target_rank": 2, "initial_steps": 1, "final_steps": 2, "interval": 1}}},
        {"preset": "lora", "label": "everywhere", "targets": "all-linear", "with": {"bias": "all"}},
        {"preset": "lora", "label": "patterns", **common, "rank_pattern": {value: 2}, "alpha_pattern": {value: 5}},
        {"preset": "lora", "label": "saved", **common, "modules_to_save": norms, "with": {"bias": "lora_only"}},
        {"preset": "dora", "label": "dora_wide", "targets": [query, *wide], "layers_to_transform": [1]},
        {"preset": "lora", "label": "without", "targets": "all-linear", "exclude_modules": f".*\\.0\\..*"},
        {"preset": "lora", "label": "anchored", **common, "rank_pattern": {f"^.*\\.0\\..*{value}": 3}, "alpha_pattern": {value: 5}},
        {"preset": "lora", "label": "ends", **common, "modules_to_save": ends},
        {"preset": "adalora", "label": "adalora_root", "targets": pair, "with": {"rank_policy": {"target_rank": 2, "initial_steps": 1, "final_steps": 2, "interval": 1}, "scaling": {"kind": "alpha_over_sqrt_rank"}}},
    ]
    if bench.name == "gpt2":
        parts = ["c_attn.q", "c_attn.v"]
        variants += [{"preset": preset, "label": f"{preset}_parts", "targets": parts} for preset in ("lora", "rslora", "dora", "pissa")]
        variants.append({"preset": "lora", "label": "parts_patterns", "targets": parts, "rank_pattern": {"c_attn.v": 2}})
    if is_real:
        variants = [v for v in variants if v.get("label", v["preset"]) in ("lora", "dora", "vera", "adalora", "dylora", "pissa")]
    for run in bench.ours(variants):
        what = run.name.split("-")[1]
        exact = what not in ("pissa", "milora", "olora", "pissa_parts", "adalora", "adalora_root")
        bench.export(run, what, exact=exact)
        # PEFT 0.18 cannot take OLoRA's start off GPT-2's Conv1D.
        if what == "pissa" or (what == "olora" and bench.name != "gpt2"):
            bench.export(run, f"{what}_residual", "--residual", exact=True)
        if what == "dylora":
            bench.export(run, "dylora_2", "--rank", "2", exact=False)
        if what in ("vera", "dora", "lora"):
            bench.export(run, f"{what}_svd", "--svd", "--rank", "3", exact=False)
    lora = {"task_type": "SEQ_CLS", "r": 4, "lora_alpha": 8, "target_modules": pair}
    bench.theirs("lora", LoraConfig(**lora))
    bench.theirs("dora", LoraConfig(**lora, use_dora=True))
    bench.theirs("vera", VeraConfig(task_type="SEQ_CLS", r=5, target_modules=[query, *wide]))
    bench.theirs("adalora", AdaLoraConfig(task_type="SEQ_CLS", init_r=4, target_r=2, total_step=10, lora_alpha=8, target_modules=pair), prune)
    if is_real:
        return
    bench.theirs("rslora", LoraConfig(**lora, use_rslora=True))
    bench.theirs("pissa", LoraConfig(**lora, init_lora_weights="pissa"))
    if bench.name != "gpt2":
        bench.theirs("olora", LoraConfig(**lora, init_lora_weights="olora"))
    bench.theirs("everywhere", LoraConfig(**{**lora, "target_modules": "all-linear"}, bias="all"))
    bench.theirs("patterns", LoraConfig(**{**lora, "target_modules": [query, *wide]}, rank_pattern={wide[0]: 2}, alpha_pattern={wide[0]: 3}))
    bench.theirs("layers", LoraConfig(**lora, layers_to_transform=[1]))
    bench.theirs("saved", LoraConfig(**lora, modules_to_save=norms))
    bench.theirs("ends", LoraConfig(**lora, modules_to_save=ends))
    bench.theirs("passed_over", LoraConfig(**{**lora, "target_modules": [*pair, "no_such"]}, exclude_modules=["nor_this"], rank_pattern={"nothing": 2}, layers_to_transform=[1, 7]))
    bench.theirs("expression", LoraConfig(**{**lora, "target_modules": f".*\\.1\\..*{query}"}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--minilm", type=Path)
    parser.add_argument("--glue", type=Path)
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    args.binary = args.binary.resolve()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    names = {
        "bert": ("query", "value", ["intermediate.dense", "attention.output.dense"], ["pooler"], ["attention.output"]),
        "roberta": ("query", "value", ["intermediate.dense", "attention.output.dense"], ["output.LayerNorm"], ["embeddings.LayerNorm"]),
        "gpt2": ("c_attn", "attn.c_proj", ["mlp.c_fc", "mlp.c_proj"], ["ln_f"], ["mlp"]),
        "llama": ("q_proj", "v_proj", ["down_proj", "up_proj"], ["input_layernorm"], ["norm"]),
    }
    with tempfile.TemporaryDirectory() as at:
        root = Path(at)
        rows(root / "glue")
        for kind, found in names.items():
            if args.only and kind not in args.only:
                continue
            (root / kind).mkdir()
            tiny(kind, root / kind)
            bench = Bench(args, kind, root / kind, root / "glue", root / f"{kind}.work", 12)
            study(bench, *found, is_real=False)
            print(f"{kind}: {bench.checked} comparisons, largest difference of logits {bench.worst:.1e}", flush=True)
        if args.minilm and (not args.only or "minilm" in args.only):
            bench = Bench(args, "minilm", args.minilm.resolve(), args.glue.resolve(), root / "minilm.work", 10)
            study(bench, *names["bert"], is_real=True)
            print(f"minilm: {bench.checked} comparisons, largest difference of logits {bench.worst:.1e}", flush=True)


if __name__ == "__main__":
    main()
