"""Methods that write the base over time, from the papers' algorithms in plain torch; written beside the fixtures of variants.py.

    relora, cola, xgblora, delta_lora.safetensors   as that script's files, on its base and batches

What a restart draws comes from this program's own stream.
"""

import json
import math

import torch
from torch import nn
from transformers.utils import logging

from variants import (
    ALPHA, ENDINGS, OUT, RANK, RATE, SEED, STEPS, adamw, base, exact, inputs, noise, plain, stream, twice, unit,
)  # fmt: skip


class Written(nn.Module):
    """LoRA beside a weight that is written between steps: `(W + s B A) x`."""

    def __init__(self, linear, generator):
        super().__init__()
        self.base, self.scale = linear.requires_grad_(False), ALPHA / RANK
        self.lora_A = nn.Linear(linear.in_features, RANK, bias=False)  # holders alone, for PEFT's names
        self.lora_B = nn.Linear(RANK, linear.out_features, bias=False)
        for holder in (self.lora_A, self.lora_B):
            holder.weight.data = exact(0.4 * noise(generator, holder.weight.shape))

    def change(self):
        return self.scale * (self.lora_B.weight @ self.lora_A.weight).detach()

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.lora_A.weight.T) @ self.lora_B.weight.T

    @property
    def weight(self):
        return self.base.weight + self.change()


def over_time(name, batches, seed, after, rates=None, settings=()):
    """`after(step, modules, optimizer)` writes the weights of the modules, by map, after a step."""
    optimizers = []

    def make():
        model, generator = base(), torch.Generator().manual_seed(seed)
        for parameter in model.bert.parameters():
            parameter.requires_grad_(False)
        for key, module in list(model.named_modules()):
            if any(key.endswith(f".{end}") for end in ENDINGS):
                parent, _, child = key.rpartition(".")
                setattr(model.get_submodule(parent), child, Written(module, generator))
        return model.double().train()

    def written(model):
        return {plain(key): module for key, module in model.named_modules() if isinstance(module, Written)}

    def hook(model, _record):
        return lambda step: after(step, written(model), optimizers[-1])

    def optimizer_of(model):
        optimizers.append(adamw(model))
        return optimizers[-1]

    def write(model, record):
        record.setting |= {"scale": ALPHA / RANK, "seed": SEED, **dict(settings)}
        record.setting["rates"] = [RATE * (rates(step) if rates else 1 - step / STEPS) for step in range(STEPS)]
        record.merged({key: module.weight for key, module in written(model).items()})
        with torch.no_grad():
            record.add("merged_logits", model(**inputs(batches[0])).logits)
        record.write(name)

    twice(make, batches, optimizer_of, write, after=hook, rates=lambda _model, _record: rates)


def first_a(key, restart, shape):
    """A of a map after a restart: U(±1/√d_in), row by row, from this program's own stream."""
    draws, bound = stream(SEED, "init", f"{key} after restart {restart}.a"), 1 / math.sqrt(shape[1])
    return torch.tensor([(2 * unit(draws) - 1) * bound for _ in range(math.prod(shape))]).reshape(shape)


def restarting(name, batches, seed, restarts, moments, rates=None, **settings):
    """Algorithm 1 of ReLoRA: `W += s B A`, A anew, B = 0, and `moments(optimizer, factors)`; in periods of equal length."""

    def after(step, modules, optimizer):
        due = [j for j in range(1, restarts + 1) if step + 1 == STEPS * j // (restarts + 1)]
        if not due:
            return
        for key, module in modules.items():
            module.base.weight.data += module.change()
            module.lora_A.weight.data = first_a(key, due[0], module.lora_A.weight.shape)
            module.lora_B.weight.data.zero_()
        moments(optimizer, [holder.weight for module in modules.values() for holder in (module.lora_A, module.lora_B)])

    over_time(name, batches, seed, after, rates, {"restarts": restarts, **settings})


def relora(batches):
    """Moments pruned by magnitude, and a linear schedule under ramps of two steps."""
    restarts, share, ramp = 3, 0.9, 2
    period = STEPS // (restarts + 1)

    def moments(optimizer, factors):
        for p in factors:
            for key in ("exp_avg", "exp_avg_sq"):
                value = optimizer.state[p][key]
                value *= value.abs() > torch.quantile(value.abs().flatten(), share)

    def rates(step):
        return (1 - step / STEPS) * (min(1, step % period / ramp) if step >= period else 1)

    restarting("relora", batches, 50, restarts, moments, rates, share=share, ramp=ramp)


def cola(batches):
    """A new optimizer and a new schedule for every link; links of 6, 7 and 7 steps."""
    restarts = 2
    firsts = [STEPS * j // (restarts + 1) for j in range(restarts + 2)]

    def moments(optimizer, _factors):
        optimizer.state.clear()

    def rates(step):
        first, end = next((a, b) for a, b in zip(firsts, firsts[1:]) if a <= step < b or b == STEPS)
        return 1 - (step - first) / (end - first)

    restarting("cola", batches, 51, restarts, moments, rates)


def xgblora(batches):
    """Moments of the learners begin anew every four steps; the head keeps its own."""

    def moments(optimizer, factors):
        for p in factors:
            del optimizer.state[p]

    restarting("xgblora", batches, 52, 4, moments)


def delta_lora(batches):
    """Algorithm 1: after step K the weight is written by λ times the change of s B A in every step."""
    factor, start, before = 0.75, 4, {}

    def after(step, modules, _optimizer):
        for key, module in modules.items():
            if step + 1 > start:
                module.base.weight.data += factor * (module.change() - before[key])
            before[key] = module.change()

    over_time("delta_lora", batches, 56, after, settings={"lambda": factor, "start": start})


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    batches = json.loads((OUT / "batches.json").read_text())
    relora(batches)
    cola(batches)
    xgblora(batches)
    delta_lora(batches)


if __name__ == "__main__":
    main()
