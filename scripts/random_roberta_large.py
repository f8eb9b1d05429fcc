"""Writes a base of RoBERTa-large's shape with random weights: python3 scripts/random_roberta_large.py FOLDER

For measurements of time and memory, which do not depend on what the weights are. The tokenizer is that of the miniature `story_roberta_128`,
whose tokens are the first of the vocabulary. Needs numpy.
"""

import json
import pathlib
import shutil
import struct
import sys

import numpy as np

WIDTH, INNER, LAYERS, HEADS, VOCABULARY, POSITIONS = 1024, 4096, 24, 16, 50265, 514
MINIATURE = pathlib.Path(__file__).parent.parent / "crates/models/assets/story_roberta_128"


def shapes():
    """Names and shapes as RobertaForMaskedLM has them, weights [d_out, d_in]."""
    yield "roberta.embeddings.word_embeddings.weight", (VOCABULARY, WIDTH)
    yield "roberta.embeddings.position_embeddings.weight", (POSITIONS, WIDTH)
    yield "roberta.embeddings.token_type_embeddings.weight", (1, WIDTH)
    norms = ["roberta.embeddings.LayerNorm"]
    for layer in range(LAYERS):
        at = f"roberta.encoder.layer.{layer}"
        maps = {"attention.self.query": (WIDTH, WIDTH), "attention.self.key": (WIDTH, WIDTH), "attention.self.value": (WIDTH, WIDTH)}
        maps |= {"attention.output.dense": (WIDTH, WIDTH), "intermediate.dense": (INNER, WIDTH), "output.dense": (WIDTH, INNER)}
        for name, shape in maps.items():
            yield f"{at}.{name}.weight", shape
            yield f"{at}.{name}.bias", shape[:1]
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    for norm in norms:
        yield f"{norm}.weight", (WIDTH,)
        yield f"{norm}.bias", (WIDTH,)


def main():
    if len(sys.argv) != 2:
        sys.exit("give the folder to write, such as models/random_roberta_large")
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(MINIATURE / "tokenizer.json", folder / "tokenizer.json")
    config = json.loads((MINIATURE / "config.json").read_text())
    config |= {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    config |= {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS, "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    header, end = {}, 0
    for name, shape in shapes():
        start, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(0)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes():
            if name.endswith("LayerNorm.weight"):
                values = np.ones(shape, np.float32)
            elif len(shape) == 1:
                values = np.zeros(shape, np.float32)
            else:
                values = 0.02 * rng.standard_normal(shape, np.float32)
            file.write(values.tobytes())


if __name__ == "__main__":
    main()
