"""This program's step beside PEFT's, claim by claim, on one machine in one go.

    cargo build --release -p trainer --example step_time            # on a GPU: just gpu builds it with the feature `tch`
    python bench/compare.py --step-time target/release/examples/step_time --claims cpu
    python bench/compare.py --step-time .../step_time --claims single,cohort,variants,memory,steady --device cuda

| claim | what is timed |
|---|---|
| single | one run, RoBERTa-base's shape, batch 32 x 128, r = 8 on query and value, bf16 base, dropout 0 and 0.1 |
| cohort | 8 such runs at once; 32 at MiniLM's shape, batch 32 x 64; the share of the card's matrix rate |
| variants | eight variants' steps as ratios to lora's, one run, dropout 0; PEFT's beside it where it has the variant |
| each | every registered method's step as a ratio to lora's, one run, dropout 0: the last column of `bench/step.md` |
| memory | peaks of allocated bytes, and what LoRA-FA saves on every linear map, calculated and measured |
| merged | a batch's logits with the adapter folded in, and beside the base, as ratios to the plain base |
| steady | 10,000 steps at MiniLM's shape: time of the first and the last hundred, memory before and after |
| cpu | the miniature's shape and MiniLM's on the CPU, f32 |

Matched in every ratio: shapes, padding mask (rows between half and all of the width; where nothing is dropped, on a GPU in bf16, this
program leaves the padding out of everything, which PEFT computes), dropout, adapters and head in f32 under the base's
width, AdamW, clipping at norm 1, rank and targets. Medians; a step of this program in a group of eight that ends with the host's read.
On a CPU the two take turns, and the median of the turns' medians counts. Prints a line per measurement as it comes, and the ratios at the end.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent


class Bench:
    def __init__(self, args):
        self.args, self.lines = args, []

    def keep(self, label, line):
        line["label"] = label
        self.lines.append(line)
        short = {k: line.get(k) for k in ("label", "median_ms", "min_ms", "peak_bytes", "error") if line.get(k) is not None}
        print(json.dumps(short), flush=True)
        return line

    def ours(self, label, shape, seq, runs=1, batch=32, variants="lora", dropout=0, steps=40, **more):
        device = "flex" if self.args.device == "cpu" else "tch:cuda:0"
        base = "f32" if self.args.device == "cpu" else "bf16"
        words = dict(shape=shape, seq=seq, runs=runs, batch=batch, variants=variants, dropout=dropout, device=device, base=base, steps=steps, **more)
        command = [str(self.args.step_time)] + [part for k, v in words.items() for part in (f"--{k}", str(v))]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return self.keep(label, {"error": done.stderr[-300:]})
        return self.keep(label, json.loads(done.stdout))

    def each(self, shape, seq, batch=32, steps=48):
        device, base = ("flex", "f32") if self.args.device == "cpu" else ("tch:cuda:0", "bf16")
        words = dict(shape=shape, seq=seq, batch=batch, device=device, base=base, steps=steps, each="all")
        command = [str(self.args.step_time)] + [part for k, v in words.items() for part in (f"--{k}", str(v))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            lines = (json.loads(line) for line in running.stdout)
            lines = [self.keep(line["variants"], line) for line in lines]
        if running.returncode:
            raise SystemExit(f"{self.args.step_time} ended with {running.returncode}")
        return lines

    def peft(self, label, shape, seq, modes="eager", variant="lora", dropout=0, targets="query,value", steps=20):
        base = "f32" if self.args.device == "cpu" else "bf16"
        words = dict(shape=shape, seq=seq, mode=modes, variant=variant, dropout=dropout, device=self.args.device, base=base, targets=targets, steps=steps)
        command = [sys.executable, str(HERE / "peft_step.py")] + [part for k, v in words.items() for part in (f"--{k}", str(v))]
        done = subprocess.run(command, capture_output=True, text=True)
        found = {}
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                line = json.loads(line)
                found[line["mode"]] = self.keep(f"{label}, {line['mode']}", line)
        return found


def ratio(a, b, key="median_ms", per=1):
    if not a or not b or not a.get(key) or not b.get(key):
        return "-"
    return f"{a[key] / per / b[key]:.3f}"


def single(bench, out):
    for dropout in (0, 0.1):
        mine = bench.ours(f"one run, dropout {dropout}", "roberta-base", 128, dropout=dropout)
        theirs = bench.peft(f"PEFT, dropout {dropout}", "roberta-base", 128, bench.args.modes, dropout=dropout)
        for mode, line in theirs.items():
            out.append(f"single, dropout {dropout}: {ratio(mine, line)} of PEFT {mode}")


def cohort(bench, out):
    import torch

    x = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    for _ in range(3):
        x @ x
    start.record()
    for _ in range(20):
        x @ x
    end.record()
    torch.cuda.synchronize()
    rate = 20 * 2 * 8192**3 / (start.elapsed_time(end) * 1e-3)
    del x
    torch.cuda.empty_cache()
    for shape, seq, runs, layers, d in (("roberta-base", 128, 8, 12, 768), ("minilm", 64, 32, 6, 384)):
        for dropout in (0, 0.1):
            mine = bench.ours(f"{runs} runs, {shape}, dropout {dropout}", shape, seq, runs=runs, dropout=dropout)
            theirs = bench.peft(f"PEFT, {shape}, dropout {dropout}", shape, seq, bench.args.modes, dropout=dropout)
            for mode, line in theirs.items():
                out.append(f"cohort of {runs}, {shape}, dropout {dropout}: {ratio(mine, line, per=runs)} of PEFT {mode} per run and step")
            tokens = mine.get("tokens", runs * 32 * seq)
            # What is computed, which without padding is less than rows times width. Forward and the gradient of the inputs: two passes through the maps, 12 d^2 numbers a layer; attention 4 seq d forward, twice back.
            operations = layers * tokens * (4 * 12 * d * d + 12 * seq * d)
            if mine.get("median_ms"):
                share = operations / (mine["median_ms"] * 1e-3) / rate
                out.append(f"cohort of {runs}, {shape}, dropout {dropout}: {share:.1%} of {rate / 1e12:.0f} TFLOP/s by counted operations")


def variants(bench, out):
    names = ["lora", "dylora", "vera", "lora_plus", "lora_fa", "rslora", "adalora", "dora"]
    mine = {name: bench.ours(name, "roberta-base", 128, variants=name) for name in names}
    again = bench.ours("lora again", "roberta-base", 128)
    out.append(f"variants: lora against itself {ratio(again, mine['lora'])}")
    theirs = {name: bench.peft(f"PEFT {name}", "roberta-base", 128, variant=name).get("eager") for name in ("lora", "vera", "adalora", "dora")}
    for name in names[1:]:
        beside = f", PEFT's {ratio(theirs[name], theirs['lora'])}" if name in theirs else ""
        out.append(f"variants: {name} {ratio(mine[name], mine['lora'])} of lora{beside}")
        if theirs.get(name):
            out.append(f"memory: {name} {ratio(mine[name], theirs[name], 'peak_bytes')} of PEFT's peak")


def each(bench, out):
    shape, seq = ("mini", 32) if bench.args.device == "cpu" else ("roberta-base", 128)
    lines = bench.each(shape, seq)
    loras = [at for at, line in enumerate(lines) if line["variants"] == "lora"]
    times = ", ".join(f"{lines[at]['median_ms']:.3f}" for at in loras)
    out.append(f"each: {shape}, {seq}; lora took {times} ms")
    for first, last in zip(loras, loras[1:]):
        for at in range(first + 1, last):
            # A card's clock drifts: LoRA's time here is read off the line between the two measurements around it.
            share = (at - first) / (last - first)
            lora = (1 - share) * lines[first]["median_ms"] + share * lines[last]["median_ms"]
            out.append(f"each: {lines[at]['variants']} {lines[at]['median_ms'] / lora:.3f} of lora")


def memory(bench, out):
    for dropout in (0, 0.1):
        mine = bench.ours(f"one run, dropout {dropout}", "roberta-base", 128, dropout=dropout, steps=8)
        theirs = bench.peft(f"PEFT, dropout {dropout}", "roberta-base", 128, dropout=dropout, steps=6).get("eager")
        out.append(f"memory: lora, dropout {dropout}: {ratio(mine, theirs, 'peak_bytes')} of PEFT's peak")
    kept = {}
    for name in ("lora", "lora_fa"):
        kept[name] = bench.ours(f"{name}, every linear map", "roberta-base", 128, variants=name, targets="all-linear", steps=8)
        theirs = bench.peft(f"PEFT {name}, every linear map", "roberta-base", 128, variant=name, targets="all-linear", steps=6).get("eager")
        out.append(f"memory: {name} on every linear map: {ratio(kept[name], theirs, 'peak_bytes')} of PEFT's peak")
    # Kept for the gradient of A alone, by layer: the input of query, key and value, and of intermediate, [tokens, d] each; the input of
    # output, [tokens, 4 d]. The input of attention.output is kept by attention either way. bf16. The peak comes in the backward pass of the
    # last layer's GELU, when the widest of its inputs has done its work and is gone.
    tokens, d, layers = kept["lora"].get("tokens", 0), 768, 12
    calculated = (layers * (1 + 1 + 4) - 4) * tokens * d * 2
    # A's two moments, f32; its gradients come after the peak.
    a = layers * 8 * (5 * d + 4 * d)
    calculated += 2 * 4 * a
    if all(kept[name].get("peak_bytes") for name in kept):
        measured = kept["lora"]["peak_bytes"] - kept["lora_fa"]["peak_bytes"]
        out.append(f"memory: LoRA-FA saves {measured / 2**20:.1f} MiB, calculated {calculated / 2**20:.1f} MiB, ratio {measured / calculated:.3f}")


def steady(bench, out):
    line = bench.ours("10,000 steps", "minilm", 64, steps=10_000, group=100)
    if line.get("median_ms"):
        out.append(
            f"steady: first hundred {line['first_ms']:.3f} ms a step, last {line['last_ms']:.3f}, median {line['median_ms']:.3f}; finite {line['finite']}; "
            f"{line['now_bytes'] / 2**20:.1f} MiB at the end, peak of the first step {line['peak_bytes'] / 2**20:.1f} MiB, reserved {line['reserved_bytes'] / 2**20:.1f} MiB"
        )


def merged(bench, out):
    for shape, seq in (("roberta-base", 128), ("minilm", 64)):
        line = bench.ours(f"inference, {shape}", shape, seq, steps=100, mode="infer")
        for form, ms, share in line.get("forms", []):
            out.append(f"merged: {shape}, {form}: {ms:.3f} ms, {share:.3f} of plain")


def cpu(bench, out):
    for shape, seq in (("mini", 32), ("mini", 64), ("minilm", 64)):
        steps, pairs = 60 if shape == "mini" else 10, []
        for turn in range(bench.args.turns):
            # In turn, since a shared machine's speed drifts by more than what is compared.
            mine = bench.ours(f"{shape} {seq}, turn {turn}", shape, seq, steps=steps)
            theirs = bench.peft(f"PEFT, {shape} {seq}, turn {turn}", shape, seq, steps=steps).get("eager")
            if not (mine.get("median_ms") and theirs):
                return out.append(f"cpu: {shape}, batch 32 x {seq}: -")
            pairs.append((mine, theirs))
        mine, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
        whole = [{"median_ms": median(line["median_ms"] for line in side), "min_ms": min(line["min_ms"] for line in side)} for side in (mine, theirs)]
        each = ", ".join(ratio(*pair) for pair in pairs)
        here, there = (f"{side['median_ms']:.1f} ({side['min_ms']:.1f})" for side in whole)
        out.append(
            f"cpu: {shape}, batch 32 x {seq}: {here} ms here, PEFT {there}: {ratio(*whole)} of PEFT (minima {ratio(*whole, 'min_ms')}); turn by turn {each}"
        )


CLAIMS = {f.__name__: f for f in (single, cohort, variants, each, memory, merged, steady, cpu)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step-time", type=Path, required=True, help="the built example step_time of crates/trainer")
    parser.add_argument("--claims", default="cpu", help=f"with commas, of {', '.join(CLAIMS)}")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--turns", type=int, default=5, help="of claim cpu: pairs of measurements, in turn")
    parser.add_argument("--modes", default="eager,graphs", help="PEFT's: eager, compile, graphs")
    args = parser.parse_args()
    bench, out = Bench(args), []
    for claim in args.claims.split(","):
        CLAIMS[claim](bench, out)
    print("\n".join(["", *out]))


if __name__ == "__main__":
    main()
