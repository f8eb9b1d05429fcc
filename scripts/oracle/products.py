"""Twenty steps of the methods whose update is a product or a structured matrix, written to crates/trainer/tests/fixtures/parity.

The base, the batches, the optimizer and the form of a fixture are those of `variants.py`. PEFT's modules where PEFT 0.18.1 has the method; where
it has not, the paper's equation as a dense matrix in plain torch, in torch's layout `[d_out, d_in]`, without the factored passes of the crate.
"""

import json
import math

import torch
import torch.nn.functional as F
import variants as v
from peft import LoHaConfig, LoKrConfig, MissConfig, RandLoraConfig, TaskType, VBLoRAConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.utils import logging


def drawn(name, shape, bound):
    """U(±bound) of the program's own streams, row-major."""
    draws = v.stream(v.SEED, "init", name)
    return torch.tensor([(2 * v.unit(draws) - 1) * bound for _ in range(math.prod(shape))]).reshape(shape)


def stir(model, seed, near=()):
    """Adapters away from their start, so that no gradient is 0; those whose name ends in one of `near` a fifth from theirs."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(v.trained(model).items()):
        if v.is_head(name):
            continue
        moved = v.noise(generator, parameter.shape)
        kept = v.plain(name).rsplit(".", 1)[-1] in near
        parameter.data = v.exact(parameter.data * (1 + 0.2 * moved)) if kept else v.exact(0.4 * moved)


# PEFT


def peft_run(name, batches, config, seed, more=None, rank=v.RANK, near=(), rate=v.RATE, **setting):
    def make():
        options = {"target_modules": v.ENDINGS, "task_type": TaskType.SEQ_CLS}
        model = get_peft_model(v.base(), config(r=rank, **options)).double().train()
        if more:
            more(model)
        stir(model, seed, near)
        return model

    def write(model, record):
        record.setting |= {"rank": rank, "learning_rate": rate} | setting
        modules = {v.plain(key): module for key, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
        scales = {module.scaling["default"] for module in modules.values() if hasattr(module, "scaling")}
        if scales:
            (record.setting["scale"],) = scales
        merged = model.merge_and_unload()
        plain = {v.plain(key): module for key, module in merged.named_modules()}
        record.merged({key: plain[key].weight for key in modules})
        with torch.no_grad():
            record.add("merged_logits", merged(**v.inputs(batches[0])).logits)
        record.write(name)

    v.twice(make, batches, lambda model: v.adamw(model, rate=rate), write)


def loha(batches):
    peft_run("loha", batches, lambda **o: LoHaConfig(alpha=v.ALPHA, **o), 50)


def lokr(batches):
    """At rank 1, so that some parts have two factors: of the default the right one; at factor 4 with both, parts of every kind."""
    peft_run("lokr", batches, lambda **o: LoKrConfig(alpha=v.ALPHA, **o), 51, rank=1)
    both = lambda **o: LoKrConfig(alpha=v.ALPHA, decompose_both=True, decompose_factor=4, **o)
    peft_run("lokr_both", batches, both, 52, rank=1, decompose_factor=4)


def miss(batches):
    """8 inputs are no multiple of rank 3."""
    peft_run("miss", batches, MissConfig, 53)
    peft_run("miss_columns", batches, lambda **o: MissConfig(init_weights="mini", mini_r=4, **o), 54, columns=4)
    peft_run("bone", batches, lambda **o: MissConfig(init_weights="bat", **o), 55, rank=4)


def randlora(batches):
    """The pair is the one that this program draws; PEFT slices it."""
    widest, bases = 12, 4

    def pair(model):
        shared = model.base_model
        assert shared.randlora_A["default"].shape == (v.RANK, 1, widest)
        assert shared.randlora_B["default"].shape == (widest, bases, v.RANK)
        for key in ("randlora_A", "randlora_B"):
            drawn_by_peft = getattr(shared, key)["default"]
            # PEFT divides by the deviation of what it drew: the ends of a uniform distribution come near √3.
            assert 1.4 < drawn_by_peft.abs().max() < 2.1
            own = drawn(key.replace("_", "."), drawn_by_peft.shape, math.sqrt(3))
            getattr(shared, key)["default"] = own
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                module.randlora_A, module.randlora_B = shared.randlora_A, shared.randlora_B

    config = lambda **o: RandLoraConfig(randlora_alpha=v.ALPHA, **o)
    peft_run("randlora", batches, config, 56, more=pair, near=("randlora_gamma",), projection_seed=v.SEED)


# Written out


class Adapted(nn.Module):
    """A frozen map and an update `[d_out, d_in]`, a function of the map's own tensors."""

    def __init__(self, linear, trained, frozen, weight):
        super().__init__()
        self.base, self.of = linear.requires_grad_(False), weight
        for name, value in trained.items():
            self.register_parameter(name, nn.Parameter(value))
        for name, value in frozen.items():
            self.register_buffer(name, value)

    @property
    def weight(self):
        return self.of(self)

    def forward(self, x):
        return F.linear(x, self.weight, self.base.bias)


class Routed(Adapted):
    """A frozen map whose update is a function of the map's tensors and of the input."""

    def forward(self, x):
        return F.linear(x, self.base.weight, self.base.bias) + self.of(self, x)


def written_run(
    name, batches, parts, weight, seed, rank=v.RANK, near=(), rate=v.RATE, optimizer_of=None, penalty=None, after=None, share=None,
    kind=Adapted, **setting,
):  # fmt: skip
    """`parts` gives a map's trained and frozen tensors, by the names that the crate has for them. The loss has `penalty` of the model, and
    every step ends with `after` of it and the step's number. `share` gives maps what they own together;
    `kind` is what takes a map's place."""

    def make():
        model = v.base()
        for parameter in model.bert.parameters():
            parameter.requires_grad_(False)
        for key, module in list(model.named_modules()):
            if any(key.endswith(f".{end}") for end in v.ENDINGS):
                parent, _, child = key.rpartition(".")
                setattr(model.get_submodule(parent), child, kind(module, *parts(module), weight))
        if share:
            share(model)
        model = model.double().train()
        stir(model, seed, near)
        if penalty:

            def penalised(model, _arguments, out):
                if out.loss is not None:
                    out.loss = out.loss + penalty(model)
                return out

            model.register_forward_hook(penalised)
        return model

    def write(model, record):
        record.setting |= {"rank": rank, "learning_rate": rate} | setting
        adapted = {v.plain(key): module for key, module in model.named_modules() if isinstance(module, Adapted)}
        saved = {f"{key}.{own}": value for key, m in adapted.items() for own, value in m.named_buffers(recurse=False)}
        saved = {key: value for key, value in saved.items() if not key.endswith("_shared")}
        if saved:
            record.setting["frozen"] = [[key, list(value.shape)] for key, value in saved.items()]
            record.add("frozen", torch.cat([value.flatten() for value in saved.values()]))
        if kind is Routed:  # there is no merged model
            record.setting["maps"] = [[key, list(module.base.weight.shape)] for key, module in adapted.items()]
            return record.write(name)
        weights = {key: module.weight for key, module in adapted.items()}
        record.merged(weights)
        with torch.no_grad():
            merged = v.base()
            for key, value in weights.items():
                merged.get_submodule(f"bert.{key}").weight.copy_(value)
            trained = dict(model.named_parameters())
            for key, value in merged.named_parameters():
                if v.is_head(key):
                    value.copy_(trained[key])
            record.add("merged_logits", merged(**v.inputs(batches[0])).logits)
        record.write(name)

    hooks = {"after": lambda model, _record: lambda step: after(model, step)} if after else {}
    v.twice(make, batches, optimizer_of or (lambda model: v.adamw(model, rate=rate)), write, **hooks)


def sides(linear):
    return linear.in_features, linear.out_features


def pair(linear, rank):
    """`a [rank, d_in]` and `b [d_out, rank]`; `stir` fills them."""
    d_in, d_out = sides(linear)
    return {"a": torch.empty(rank, d_in), "b": torch.empty(d_out, rank)}


def lora_xs(batches):
    def parts(linear):
        u, s, vh = torch.linalg.svd(linear.weight.detach(), full_matrices=False)
        frozen = {"a": s[: v.RANK, None] * vh[: v.RANK], "b": u[:, : v.RANK]}
        return {"core": torch.empty(v.RANK, v.RANK)}, frozen

    scale = v.ALPHA / v.RANK
    weight = lambda m: m.base.weight + scale * m.b @ m.core @ m.a
    written_run("lora_xs", batches, parts, weight, 57, scale=scale)


def cores(batches):
    scale = v.ALPHA / v.RANK
    full = lambda linear: (pair(linear, v.RANK) | {"core": torch.empty(v.RANK, v.RANK)}, {})
    weight = lambda m: m.base.weight + scale * m.b @ m.core @ m.a
    written_run("flora_core", batches, full, weight, 58, scale=scale)
    diagonal = lambda linear: (pair(linear, v.RANK) | {"lambda": torch.empty(v.RANK)}, {})
    weight = lambda m: m.base.weight + scale * m.b @ torch.diag(getattr(m, "lambda")) @ m.a
    written_run("tri_lora", batches, diagonal, weight, 59, scale=scale)
    sora(batches, diagonal, weight, scale)
    dora_dynamic(batches, diagonal, weight, scale)


def sora(batches, parts, weight, scale):
    """The authors' optimizer of the gates: a step of AdamW without decay, then `sign(g)·max(|g| - ξ, 0)`."""
    threshold, weight_of_penalty = 8e-3, 0.05
    gates = lambda model: [p for name, p in model.named_parameters() if name.endswith(".lambda")]

    def penalty(model):
        return weight_of_penalty * torch.cat(gates(model)).abs().mean()

    @torch.no_grad()
    def shrink(model, _step):
        for gate in gates(model):
            gate.copy_(gate.sign() * torch.clamp(gate.abs() - threshold, min=0.0))

    def optimizer_of(model):
        groups, own = v.groups(model), {id(gate) for gate in gates(model)}
        for group in groups:
            if id(group["params"][0]) in own:
                group["weight_decay"] = 0.0
        return torch.optim.AdamW(groups, eps=v.EPS)

    setting = {"scale": scale, "threshold": threshold, "penalty_weight": weight_of_penalty}
    hooks = {"optimizer_of": optimizer_of, "penalty": penalty, "after": shrink}
    written_run("sora", batches, parts, weight, 66, **hooks, **setting)


def dora_dynamic(batches, parts, weight, scale):
    """The authors' pruning: scores are averages of shares of norms, the lowest over all maps go, and may come back until the last time."""
    initial, final, interval, target, beta, weight_of_penalty = 3, 10, 2, 2, 0.9, 0.1
    length = v.STEPS - initial - final
    run = {}

    def modules(model):
        return [m for m in model.modules() if isinstance(m, Adapted)]

    def optimizer_of(model):
        run.update(done=0, scores=[torch.zeros(v.RANK) for _ in modules(model)], gone=None, left=[])
        return v.adamw(model)

    def penalty(model):
        if run["done"] + 1 - initial > length:
            return torch.zeros(())
        variances = [torch.cat([m.a.var(dim=1), m.b.var(dim=0)]) for m in modules(model)]
        return weight_of_penalty * torch.cat(variances).mean()

    @torch.no_grad()
    def prune(model, step):
        run["done"] = step + 1
        at, gates = step + 1 - initial, [getattr(m, "lambda") for m in modules(model)]
        if at <= length:
            for m, gate, score in zip(modules(model), gates, run["scores"]):
                each = torch.stack([torch.linalg.norm(gate[k] * torch.outer(m.b[:, k], m.a[k])) for k in range(v.RANK)])
                whole = torch.linalg.norm(m.b @ torch.diag(gate) @ m.a)
                score.mul_(beta).add_(each / (whole + 1e-8), alpha=1 - beta)
            if at >= 0 and (at % interval == 0 or at == length):
                everything = torch.cat(run["scores"])
                gone = int((v.RANK - target) * len(gates) * (at / length) ** 3)
                threshold = torch.kthvalue(everything, max(gone, 1)).values
                for gate, score in zip(gates, run["scores"]):
                    gate[score <= threshold] = 0.0
                if at == length:
                    run["gone"] = [score <= threshold for score in run["scores"]]
        else:
            for gate, gone in zip(gates, run["gone"]):
                gate[gone] = 0.0
        run["left"].append(sum(int((gate != 0).sum()) for gate in gates))

    names = ("initial_steps", "final_steps", "interval", "target_rank", "beta", "penalty_weight")
    setting = dict(zip(names, (initial, final, interval, target, beta, weight_of_penalty)))
    hooks = {"optimizer_of": optimizer_of, "penalty": penalty, "after": prune}
    written_run("dora_dynamic", batches, parts, weight, 67, scale=scale, **hooks, **setting)
    assert len(set(run["left"])) > 2 and run["left"][-1] == target * 10, run["left"]


def melora(batches):
    n, scale = 2, v.ALPHA / v.RANK

    def weight(m):
        each = [b @ a for a, b in zip(m.a.chunk(n, 1), m.b.chunk(n, 0))]
        return m.base.weight + scale * torch.block_diag(*each)

    written_run("melora", batches, lambda linear: (pair(linear, v.RANK), {}), weight, 60, scale=scale, blocks=n)


def gralora(batches):
    """Block `(j, i)` of outputs and inputs is a product of its own."""
    n, rank = 2, 4
    each, scale = rank // n, v.ALPHA / rank

    def parts(linear):
        d_in, d_out = sides(linear)
        return {"a": torch.empty(rank, d_in), "b": torch.empty(d_out // n, n * rank)}, {}

    def weight(m):
        def block(j, i):
            a = m.a[j * each : (j + 1) * each].chunk(n, 1)[i]
            b = m.b[:, j * rank + i * each : j * rank + (i + 1) * each]
            return b @ a

        rows = [torch.cat([block(j, i) for i in range(n)], 1) for j in range(n)]
        return m.base.weight + scale * torch.cat(rows)

    written_run("gralora", batches, parts, weight, 61, rank=rank, scale=scale, blocks=n)


def hira(batches):
    weight = lambda m: m.base.weight * (1 + m.b @ m.a)
    written_run("hira", batches, lambda linear: (pair(linear, v.RANK), {}), weight, 62, scale=1.0)


def nola(batches):
    count, widest, scale = 5, 12, v.ALPHA / v.RANK
    start = drawn("nola.A0", (v.RANK, widest), 1 / math.sqrt(widest))
    of_a, of_b = (drawn(f"nola.{side}", (count, v.RANK, widest), 1 / math.sqrt(count)) for side in "AB")

    def parts(linear):
        d_in, d_out = sides(linear)
        shared = {"start_shared": start[:, :d_in], "a_shared": of_a[:, :, :d_in], "b_shared": of_b[:, :, :d_out]}
        return {"alpha": torch.empty(count), "beta": torch.empty(count)}, shared

    def weight(m):
        a = m.start_shared + sum(c * basis for c, basis in zip(m.alpha, m.a_shared))
        b = sum(c * basis for c, basis in zip(m.beta, m.b_shared))
        return m.base.weight + scale * b.T @ a

    written_run("nola", batches, parts, weight, 63, scale=scale, bases=count, projection_seed=v.SEED)


def dvora(batches):
    """The pair of `variants.py`'s VeRA under DoRA's decomposition, whose norm is a constant of the backward pass."""
    rank, widest, rate = 5, 12, 3e-2
    a = v.uniform(v.SEED, "vera.A", (rank, widest), widest)
    b = v.uniform(v.SEED, "vera.B", (widest, rank), rank)

    def parts(linear):
        d_in, d_out = sides(linear)
        norm = linear.weight.detach().norm(dim=1)
        own = {"lambda_d": torch.empty(rank), "lambda_b": torch.empty(d_out), "magnitude": norm.clone()}
        return own, {"a_shared": a[:, :d_in], "b_shared": b[:d_out], "norm_shared": norm}

    def weight(m):
        total = m.base.weight + m.lambda_b[:, None] * m.b_shared @ (m.lambda_d[:, None] * m.a_shared)
        return (m.magnitude / total.norm(dim=1).detach())[:, None] * total

    def optimizer_of(model):
        targets = {m.magnitude: m.norm_shared for m in model.modules() if isinstance(m, Adapted)}
        return v.TowardStart(v.groups(model, rate=rate), targets)

    written_run(
        "dvora", batches, parts, weight, 64, rank=rank, near=("magnitude",), rate=rate, optimizer_of=optimizer_of,
        projection_seed=v.SEED,
    )  # fmt: skip


def tied_lora(batches):
    """One pair for the maps in the same place of both layers, kept apart from them; vectors decay toward 1."""
    scale = v.ALPHA / v.RANK

    def parts(linear):
        d_in, d_out = sides(linear)
        return {"u": torch.ones(v.RANK), "v": torch.ones(d_out)}, {}

    def share(model):
        adapted = [(key, module) for key, module in model.named_modules() if isinstance(module, Adapted)]
        for key, module in adapted:
            d_in, d_out = sides(module.base)
            place = [part for part in v.plain(key).split(".") if not part.isdigit()]
            owner = model
            for part in ["tied", *place, f"{d_in}x{d_out}"]:
                if not hasattr(owner, part):
                    owner.add_module(part, nn.Module())
                owner = getattr(owner, part)
            if not hasattr(owner, "a"):
                owner.a = nn.Parameter(torch.empty(v.RANK, d_in))
                owner.b = nn.Parameter(torch.empty(d_out, v.RANK))
            object.__setattr__(module, "owner", owner)  # not a part of the map
        assert len(list(model.tied.parameters())) == len(adapted)  # two factors, two layers

    def weight(m):
        a, b = m.u[:, None] * m.owner.a, m.v[:, None] * m.owner.b
        return m.base.weight + scale * b @ a

    def optimizer_of(model):
        vectors = [p for m in model.modules() if isinstance(m, Adapted) for p in (m.u, m.v)]
        return v.TowardStart(v.groups(model), {p: torch.ones_like(p) for p in vectors})

    written_run(
        "tied_lora", batches, parts, weight, 67, near=("u", "v"), optimizer_of=optimizer_of, share=share, scale=scale
    )


def mixtures(batches):
    """Every token weighs the experts by a softmax of its product with the router."""
    scale, experts = v.ALPHA / v.RANK, 3

    def shared(linear):
        d_in, d_out = sides(linear)
        b = torch.empty(experts * d_out, v.RANK)  # the experts' below one another
        return {"router": torch.empty(experts, d_in), "a": torch.empty(v.RANK, d_in), "b": b}, {}

    def own(linear):
        d_in, d_out = sides(linear)
        a = torch.empty(v.RANK, 2 * d_in)  # the experts' concatenated
        return {"router": torch.empty(2, d_in), "a": a, "b": torch.empty(2 * d_out, v.RANK)}, {}

    def change(m, x):
        weights = torch.softmax(F.linear(x, m.router), dim=-1)
        (d_out, d_in), experts = m.base.weight.shape, m.router.shape[0]
        a = m.a.split(d_in, dim=1) * (experts if m.a.shape[1] == d_in else 1)
        b = m.b.split(d_out, dim=0)
        return sum(weights[..., i : i + 1] * scale * F.linear(F.linear(x, a[i]), b[i]) for i in range(experts))

    written_run("hydra_lora", batches, shared, change, 69, kind=Routed, scale=scale, experts=experts)
    written_run("molora", batches, own, change, 70, kind=Routed, scale=scale, experts=2)

    def gains(linear):
        d_in, d_out = sides(linear)
        return {"router": torch.empty(experts, d_out), "gains": torch.ones(d_out, experts)}, {}

    def scaled(m, x):
        y = F.linear(x, m.base.weight)  # what the router sees
        return y * (F.linear(torch.softmax(F.linear(y, m.router), dim=-1), m.gains) - 1)

    def optimizer_of(model):
        each = [m.gains for m in model.modules() if isinstance(m, Routed)]
        return v.TowardStart(v.groups(model), {p: torch.ones_like(p) for p in each})

    setting = {"near": ("gains",), "optimizer_of": optimizer_of, "scale": 1.0, "experts": experts}
    written_run("mov", batches, gains, scaled, 71, kind=Routed, **setting)


def nz_lora(batches):
    """A frozen pair of draws is subtracted, and decay pulls toward it."""
    scale = v.ALPHA / v.RANK

    def parts(linear):
        d_in, d_out = sides(linear)
        generator = torch.Generator().manual_seed(d_in + 64 * d_out)
        start = {"start_a": v.exact(v.noise(generator, (v.RANK, d_in))), "start_b": v.exact(v.noise(generator, (d_out, v.RANK)))}
        return pair(linear, v.RANK), start

    def weight(m):
        return m.base.weight + scale * (m.b @ m.a - m.start_b @ m.start_a)

    def optimizer_of(model):
        adapted = [m for m in model.modules() if isinstance(m, Adapted)]
        return v.TowardStart(v.groups(model), {m.a: m.start_a for m in adapted} | {m.b: m.start_b for m in adapted})

    written_run("nz_lora", batches, parts, weight, 72, optimizer_of=optimizer_of, scale=scale)


def sequences(batches):
    """The third task of a sequence: the factors of two are frozen beside those that train, which O-LoRA's penalty holds against them."""
    scale, overlap, earlier = v.ALPHA / v.RANK, 0.02, 2 * v.RANK

    def parts(linear):
        d_in, d_out = sides(linear)
        generator = torch.Generator().manual_seed(d_in + 64 * d_out)
        kept = {"accumulated_a": (earlier, d_in), "accumulated_b": (d_out, earlier)}
        return pair(linear, v.RANK), {key: v.exact(0.4 * v.noise(generator, shape)) for key, shape in kept.items()}

    weight = lambda m: m.base.weight + scale * (m.b @ m.a + m.accumulated_b @ m.accumulated_a)

    def penalty(model):
        maps = [m for m in model.modules() if isinstance(m, Adapted)]
        return overlap * sum((m.accumulated_a @ m.a.T).abs().sum() for m in maps)

    written_run("inc_lora", batches, parts, weight, 73, scale=scale, adapters=2)
    written_run("o_lora", batches, parts, weight, 74, penalty=penalty, scale=scale, adapters=2, overlap=overlap)


def vb_lora(batches):
    """Six vectors of four numbers, two of them in every piece."""
    config = lambda **o: VBLoRAConfig(num_vectors=6, vector_length=4, topk=2, **o)
    peft_run("vb_lora", batches, config, 68, vectors=6, vector_length=4, top_k=2)


def delora(batches):
    """The authors' start, which PEFT has not: a frozen pair of draws is subtracted, under the same trained bound."""
    rank = 3

    def parts(linear):
        d_in, d_out = sides(linear)
        generator = torch.Generator().manual_seed(d_in + 64 * d_out)
        start = {"start_a": v.exact(v.noise(generator, (rank, d_in))), "start_b": v.exact(v.noise(generator, (d_out, rank)))}
        return pair(linear, rank) | {"bound": torch.empty(1)}, start

    def directions(a, b):
        return (b / b.norm(dim=0, keepdim=True)) @ (a / a.norm(dim=1, keepdim=True))

    def weight(m):
        norms = m.base.weight.detach().norm(dim=0)  # of each input's weights
        change = directions(m.a, m.b) - directions(m.start_a, m.start_b)
        return m.base.weight + m.bound / rank * change * norms

    written_run("delora_subtracted", batches, parts, weight, 65, rank=rank)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    batches = json.loads((v.OUT / "batches.json").read_text())
    for method in (loha, lokr, lora_xs, cores, melora, miss, gralora, hira, randlora, nola, dvora, tied_lora, vb_lora, mixtures, nz_lora, sequences, delora):
        method(batches)


if __name__ == "__main__":
    main()
