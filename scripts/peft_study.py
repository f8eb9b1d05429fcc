"""The PEFT side of a matched study: LoRA on query and value of a BERT-like encoder, a GLUE task, torch's AdamW.

Matched: the given start, the given batches, one loss per step.

    python scripts/peft_study.py --model DIR --task cola --data GLUE_DIR --init INIT.safetensors \
        --batches BATCHES.json --steps 100 --dropout 0

Seeds: own start and batches from each seed, whole epochs, the metric of the dev rows.

    python scripts/peft_study.py --model DIR --task rte --data GLUE_DIR --seeds 0 1 2 --epochs 10 --lora-dropout 0.1

INIT.safetensors has the trained tensors under the names that PEFT saves:
`base_model.model.bert.encoder.layer.<n>.attention.self.<query|value>.lora_A.weight` [r, d_in], `...lora_B.weight` [d_out, r],
`base_model.model.classifier.weight` [labels, d], `base_model.model.classifier.bias` [labels]. Everything else stays as it was.
BATCHES.json is a list of lists of row numbers of train.tsv, from 0, a header not counted. The steps of the schedule are those
that are run. Packages: scripts/oracle/requirements.txt. Prints JSON.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # what deterministic products need on a GPU

import peft
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score, matthews_corrcoef
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

RTE_LABELS = ["entailment", "not_entailment"]
METRICS = {"cola": ("matthews", matthews_corrcoef), "rte": ("accuracy", accuracy_score)}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of config, weights and tokenizer")
    parser.add_argument("--task", choices=METRICS, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with CoLA/ and RTE/")
    parser.add_argument("--seed", type=int, default=0, help="of a matched run: dropout, and the start without --init")
    parser.add_argument("--init", type=Path, help="the trained tensors at the start; PEFT's own without it")
    parser.add_argument("--batches", type=Path, help="row numbers of every batch")
    parser.add_argument("--steps", type=int, help="as many of the batches; all without it")
    parser.add_argument("--write-init", type=Path, help="write the trained tensors at the start")
    parser.add_argument("--write-final", type=Path, help="write the trained tensors at the end")
    parser.add_argument("--seeds", type=int, nargs="+", help="own batches, one run per seed")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--train-rows", type=int, help="only the first rows of train.tsv")
    parser.add_argument("--dropout", type=float, help="hidden and attention dropout; config.json's without it")
    parser.add_argument("--lora-dropout", type=float, default=0.0)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--alpha", type=float, default=16)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--warmup", type=float, default=0.06, help="share of the steps")
    parser.add_argument("--clip", type=float, default=1.0, help="largest global norm of the gradient")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if (options.batches is None) == (options.seeds is None):
        parser.error("give either --batches or --seeds")
    if options.seeds and (options.init or options.steps or options.write_init or options.write_final):
        parser.error("--init, --steps, --write-init and --write-final belong to --batches")
    return options


def refuse(message):
    print(message, file=sys.stderr)
    sys.exit(2)


def rows(options, split):
    """Texts (one or two per row) and class numbers."""
    folder = options.data / {"cola": "CoLA", "rte": "RTE"}[options.task]
    lines = (folder / f"{split}.tsv").read_text(encoding="utf-8").rstrip("\n").split("\n")
    if options.task == "cola":
        fields = [line.split("\t") for line in lines]
        return [(field[3],) for field in fields], [int(field[1]) for field in fields]
    fields = [line.split("\t") for line in lines[1:]]
    return [(field[1], field[2]) for field in fields], [RTE_LABELS.index(field[3]) for field in fields]


class Rows:
    """Tokenised rows of a split."""

    def __init__(self, options, tokenizer, split, limit=None):
        texts, labels = (part[:limit] for part in rows(options, split))
        columns = [list(column) for column in zip(*texts)]
        self.tokens = tokenizer(*columns, truncation=True, padding=False, max_length=options.max_length)
        self.labels = torch.tensor(labels)
        self.tokenizer, self.device = tokenizer, options.device

    def __len__(self):
        return len(self.labels)

    def batch(self, indices):
        """Inputs padded to the batch's longest row [n, longest], and labels [n]."""
        picked = {name: [values[i] for i in indices] for name, values in self.tokens.items()}
        inputs = self.tokenizer.pad(picked, padding="longest", return_tensors="pt")
        return inputs.to(self.device), self.labels[indices].to(self.device)


def adapted(options, seed):
    """The frozen encoder with adapters and a trained head."""
    transformers.set_seed(seed)
    config = AutoConfig.from_pretrained(options.model, num_labels=2)
    if options.dropout is not None:
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = options.dropout
        config.classifier_dropout = options.dropout
    model = AutoModelForSequenceClassification.from_pretrained(
        options.model, config=config, dtype=torch.float32, attn_implementation="eager"
    )
    lora = peft.LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.lora_dropout,
        target_modules=["query", "value"],
        task_type=peft.TaskType.SEQ_CLS,
    )
    return peft.get_peft_model(model, lora).to(options.device)


def trained(model):
    """The trained parameters by the names that PEFT saves."""
    parameters = ((name, value) for name, value in model.named_parameters() if value.requires_grad)
    return {name.replace(".modules_to_save", "").replace(".default", ""): value for name, value in parameters}


def load_start(model, path):
    given, wanted = load_file(path), trained(model)
    shapes = {name: list(value.shape) for name, value in given.items()}
    expected = {name: list(value.shape) for name, value in wanted.items()}
    if shapes != expected:
        odd = sorted(name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name))
        sys.exit(
            f"{path}: `{odd[0]}` is {shapes.get(odd[0])}, expected {expected.get(odd[0])}; {len(odd)} such tensors"
        )
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(given[name])


def save_tensors(model, path):
    save_file({name: value.detach().cpu().contiguous() for name, value in trained(model).items()}, path)


class Training:
    """AdamW with decay on matrices alone, a linear schedule after a warm-up, clipping by the global norm."""

    def __init__(self, options, model, steps):
        self.model, self.clip = model, options.clip
        self.parameters = list(trained(model).values())
        groups = [
            {"params": [p for p in self.parameters if p.dim() > 1], "weight_decay": options.weight_decay},
            {"params": [p for p in self.parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.999), eps=1e-8)
        warmup = math.ceil(options.warmup * steps)
        self.schedule = transformers.get_linear_schedule_with_warmup(self.optimizer, warmup, steps)

    def step(self, inputs, labels):
        """One update; the batch's mean loss and the gradient's norm before it."""
        self.model.train()
        loss = F.cross_entropy(self.model(**inputs).logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
        self.schedule.step()
        return loss.item(), norm.item()


def matched(options, tokenizer):
    batches = json.loads(options.batches.read_text())
    steps = options.steps or len(batches)
    if steps > len(batches):
        refuse(f"{options.batches}: {len(batches)} batches, but --steps is {steps}")
    train = Rows(options, tokenizer, "train", options.train_rows)
    model = adapted(options, options.seed)
    if options.init:
        load_start(model, options.init)
    if options.write_init:
        save_tensors(model, options.write_init)
    training = Training(options, model, steps)
    done = [training.step(*train.batch(batch)) for batch in batches[:steps]]
    if options.write_final:
        save_tensors(model, options.write_final)
    return {"losses": [loss for loss, _ in done], "norms": [norm for _, norm in done]}


def evaluate(options, model, dev):
    model.eval()
    predictions = []
    with torch.no_grad():
        for start in range(0, len(dev), 64):
            inputs, _ = dev.batch(list(range(start, min(start + 64, len(dev)))))
            predictions += model(**inputs).logits.argmax(-1).tolist()
    return float(METRICS[options.task][1](dev.labels.tolist(), predictions))


def seeded(options, tokenizer, seed, train, dev):
    model = adapted(options, seed)
    order = torch.Generator().manual_seed(seed)
    size = options.batch_size
    training = Training(options, model, options.epochs * math.ceil(len(train) / size))
    losses, values = [], []
    for epoch in range(options.epochs):
        shuffled = torch.randperm(len(train), generator=order).tolist()
        each = [training.step(*train.batch(shuffled[at : at + size]))[0] for at in range(0, len(shuffled), size)]
        losses.append(sum(each) / len(each))
        values.append(evaluate(options, model, dev))
        print(f"seed {seed}, epoch {epoch + 1}: loss {losses[-1]:.4f}, dev {values[-1]:.4f}", file=sys.stderr)
    return {"seed": seed, "train_loss": losses, "dev": values, "final": values[-1]}


def main():
    options = arguments()
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    document = {
        "made_with": f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}",
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()},
        "metric": METRICS[options.task][0],
    }
    if options.batches:
        document |= matched(options, tokenizer)
    else:
        train, dev = Rows(options, tokenizer, "train", options.train_rows), Rows(options, tokenizer, "dev")
        document["runs"] = [seeded(options, tokenizer, seed, train, dev) for seed in options.seeds]
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
