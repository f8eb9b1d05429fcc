"""Methods that find the ranks of maps while they train, from the papers' equations in plain torch; written beside the fixtures of variants.py.

    autolora, alora.safetensors   as that script's files, on its base and batches

What begins anew is drawn from this program's own stream.
"""

import json

import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import logging

from over_time import first_a
from variants import (
    ALPHA, ENDINGS, OUT, RANK, RATE, SEED, STEPS, RowAdam, base, exact, groups, inputs, noise, plain, trained, twice,
)  # fmt: skip


class Gated(nn.Module):
    """`(W + s B diag(g) A) x`; with logits, `g` is their softmax until it is set."""

    def __init__(self, linear, generator, rank, opened, logits):
        super().__init__()
        self.base, self.scale = linear.requires_grad_(False), ALPHA / rank
        self.lora_A = nn.Linear(linear.in_features, rank, bias=False)  # holders alone, for PEFT's names
        self.lora_B = nn.Linear(rank, linear.out_features, bias=False)
        for holder in (self.lora_A, self.lora_B):
            holder.weight.data = exact(0.4 * noise(generator, holder.weight.shape))
        self.gate = torch.tensor([1.0] * opened + [0.0] * (rank - opened))
        if logits:
            self.lora_E = nn.Parameter(exact(1 + 0.4 * noise(generator, (rank, 1))))
            self.gate = None

    def weights(self):
        return torch.softmax(self.lora_E[:, 0], 0) if self.gate is None else self.gate

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.lora_A.weight.T * self.weights()) @ self.lora_B.weight.T

    @property
    def weight(self):
        return self.base.weight + self.scale * (self.lora_B.weight * self.weights()) @ self.lora_A.weight


def make(seed, rank, opened, logits):
    model, generator = base(), torch.Generator().manual_seed(seed)
    for parameter in model.bert.parameters():
        parameter.requires_grad_(False)
    for key, module in list(model.named_modules()):
        if any(key.endswith(f".{end}") for end in ENDINGS):
            parent, _, child = key.rpartition(".")
            setattr(model.get_submodule(parent), child, Gated(module, generator, rank, opened, logits))
    return model.double().train()


def gated(model):
    return {plain(key): module for key, module in model.named_modules() if isinstance(module, Gated)}


def finish(name, model, record, batches, **settings):
    record.setting |= {"seed": SEED, "ranks": {key: int((module.gate != 0).sum()) for key, module in gated(model).items()}, **settings}
    with torch.no_grad():
        record.merged({key: module.weight for key, module in gated(model).items()})
        record.add("merged_logits", model(**inputs(batches[0])).logits)
    record.write(name)


def autolora(batches, search=10, weight_rate=5e-2):
    """Even steps of the search train A, B and head, odd ones the logits; then what weighs 1/rank or more trains anew."""
    optimizers = []

    def is_upper(key):
        return key.endswith("lora_E")

    def rests(key, step):
        return is_upper(key) != (step < search and step % 2 == 1)

    def of_levels():
        model = make(60, RANK, RANK, logits=True)
        model.at = 0
        for key, parameter in trained(model).items():
            parameter.register_hook(lambda gradient, key=key: gradient * 0 if rests(key, model.at) else gradient)
        return model

    def before(model, _record):
        def set_step(step):
            model.at = step

        return set_step

    def optimizer_of(model):
        each = groups(model)
        for group, key in zip(each, trained(model)):
            if is_upper(key):
                group |= {"lr": weight_rate, "weight_decay": 0.0}
        optimizers.append(torch.optim.AdamW(each, eps=1e-8))

        def pass_over(*_):
            for key, parameter in trained(model).items():
                if rests(key, model.at):
                    parameter.grad = None

        optimizers[-1].register_step_pre_hook(pass_over)
        return optimizers[-1]

    def after(model, _record):
        def end_search(step):
            if step + 1 != search:
                return
            for key, module in gated(model).items():
                weights = torch.softmax(module.lora_E.detach()[:, 0], 0)
                kept = weights >= 1 / RANK
                module.gate = kept * (RANK / kept.sum())
                module.lora_A.weight.data = first_a(key, 1, module.lora_A.weight.shape)
                module.lora_B.weight.data.zero_()
            # A new optimizer, but for the logits, which rest from here on and whose moments nobody reads.
            optimizers[-1].state.clear()

        return end_search

    def rates(step):
        return 1 - step % search / search

    def write(model, record):
        ranks = [int((module.gate != 0).sum()) for module in gated(model).values()]
        assert len(set(ranks)) > 1, ranks
        record.setting["rates"] = [RATE * rates(step) for step in range(STEPS)]
        finish("autolora", model, record, batches, search=search, weight_rate=weight_rate)

    twice(of_levels, batches, optimizer_of, write, before=before, after=after, rates=lambda _model, _record: rates)


def alora(batches, rank=4, opened=2, initial=5, interval=5, rounds=2):
    """Rounds of ablation: as many components as there are maps close, lowest first, and as many open in maps that lost none."""
    optimizers = []

    def loss(model, batch):
        with torch.no_grad():
            return F.cross_entropy(model(**inputs(batch)).logits, torch.tensor(batch["labels"])).item()

    def importance(model, batch):
        modules = gated(model)
        gates = {key: module.gate.clone() for key, module in modules.items()}
        whole, scores = -loss(model, batch), {}
        for key, gate in gates.items():
            for i in gate.nonzero()[:, 0].tolist():
                modules[key].gate[i] = 0
                without = -loss(model, batch)
                for module in modules.values():
                    module.gate = torch.zeros_like(module.gate)
                modules[key].gate[i] = 1
                alone = -loss(model, batch)
                for other, module in modules.items():
                    module.gate = gates[other].clone()
                scores[key, i] = whole - without + alone
        return scores

    def move(model, scores):
        """Returns what opened, by map."""
        modules, order = gated(model), sorted(scores, key=scores.get)
        for count in range(len(modules), 0, -1):
            closed = order[:count]
            takers = [key for key in modules if key not in {key for key, _ in closed}]
            if sum(int((modules[key].gate == 0).sum()) for key in takers) < count:
                continue
            mean = {key: sum(v for (of, _), v in scores.items() if of == key) / max(1, int(modules[key].gate.sum())) for key in takers}
            takers.sort(key=lambda key: (modules[key].gate.sum() == 0, -mean[key]))
            for key, i in closed:
                modules[key].gate[i] = 0
            opened = {}
            while count:
                for key in takers:
                    free = (modules[key].gate == 0).nonzero()[:, 0].tolist()
                    if free and count:
                        modules[key].gate[free[0]], count = 1, count - 1
                        opened.setdefault(key, []).append(free[0])
            return opened
        return {}

    def optimizer_of(model):
        optimizers.append(RowAdam(groups(model), lambda p: torch.ones_like(p, dtype=torch.bool)))
        return optimizers[-1]

    def after(model, record):
        def act(step):
            turn, rest = divmod(step + 1 - initial, interval)
            if rest or not 0 <= turn < rounds:
                return
            held_out = batches[turn % len(batches)]
            moved = move(model, importance(model, held_out))
            assert moved
            for key, rows in moved.items():
                module = gated(model)[key]
                a, b = module.lora_A.weight, module.lora_B.weight
                a.data[rows] = first_a(key, turn + 1, a.shape)[rows]
                b.data[:, rows] = 0
                for state in optimizers[-1].state[a].values():
                    state[rows] = 0
                for state in optimizers[-1].state[b].values():
                    state[:, rows] = 0

        return act

    def write(model, record):
        record.setting["rank"] = rank
        finish("alora", model, record, batches, open=opened, initial_steps=initial, interval=interval, rounds=rounds)

    twice(lambda: make(61, rank, opened, logits=False), batches, optimizer_of, write, after=after)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    batches = json.loads((OUT / "batches.json").read_text())
    autolora(batches)
    alora(batches)


if __name__ == "__main__":
    main()
