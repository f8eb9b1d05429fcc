"""One DyLoRA run for every rank from 1 to 8, against eight LoRA runs: what whole trainings take.

    python bench/nested.py --program target/gpu/target/release/lora-lab --model models/all-MiniLM-L6-v2 --data data/glue --device tch:cuda:0

Three experiments on CoLA, each a program of its own: DyLoRA at rank 8, three seeds one after the other, of which the median counts; LoRA at
ranks 1 to 8, one run after the other; the same eight as one cohort. What the records say of training, evaluation not in it, and the programs'
wall time, which has loading and final evaluations. A program's first run also pays for what is made once: its first steps wait for it.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

RECIPE = """
suite: glue
data: {data}
model: {model}
tasks: [cola]
seeds: {seeds}
targets: [query, value]
ranks: {ranks}
cohort: {cohort}
train: {{epochs: {epochs}, batch: 32, max_length: 128, learning_rate: 5e-4, weight_decay: 0.1, warmup: 0.06, schedule: linear, precision: bf16,
  checkpoint_every: 100000}}
variants:
  - {{preset: {variant}, with: {{alpha: 16}}}}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--device", default="tch:cuda:0")
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, variant, ranks, seeds, cohort in (
            ("dylora", "dylora", [8], [0, 1, 2], 1),
            ("one_by_one", "lora", list(range(1, 9)), [0], 1),
            ("cohort", "lora", list(range(1, 9)), [0], 8),
        ):
            recipe = folder / f"{name}.yaml"
            given = dict(data=Path(args.data).resolve(), model=Path(args.model).resolve(), epochs=args.epochs)
            recipe.write_text(RECIPE.format(variant=variant, ranks=ranks, seeds=seeds, cohort=cohort, **given))
            clock = time.perf_counter()
            command = [args.program, "--results", str(folder), "run", str(recipe), "--device", args.device]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr[-2000:])
            records = [json.loads(path.read_text()) for path in sorted((folder / name / "runs").glob("*/record.json"))]
            sums = {key: sum(record["measured"][key] for record in records) for key in ("train_seconds", "eval_seconds")}
            each = sorted(round(record["measured"]["train_seconds"], 3) for record in records)
            found[name] = dict(each=each, runs=len(records), wall_seconds=round(time.perf_counter() - clock, 2), **{k: round(v, 3) for k, v in sums.items()})
            print(json.dumps({"experiment": name, **found[name]}), flush=True)
    for other in ("one_by_one", "cohort"):
        print(f"nested: eight LoRA runs, {other}: {found[other]['train_seconds'] / found['dylora']['each'][1]:.2f} times DyLoRA's training")


if __name__ == "__main__":
    main()
