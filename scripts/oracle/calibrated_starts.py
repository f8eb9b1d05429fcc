"""Twenty steps of the starts that are taken from training batches, written to crates/trainer/tests/fixtures/parity beside those of
`variants.py`, whose base and batches they read.

CorDA, LoRA-GA and EVA from the papers' equations in plain torch and f64. CorDA's and EVA's starts run beside PEFT's own, in f32, and must agree
with them up to the signs of components; LoRA-GA is not in this PEFT. The statistics are written as well, so that a test of them does not
depend on a decomposition.
"""

import json
import os
import tempfile

import torch
import torch.nn.functional as F
from peft import get_peft_model
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import preprocess_corda
from peft.utils.incremental_pca import IncrementalPCA
from transformers.utils import logging
from variants import (
    ALPHA, ENDINGS, OUT, RANK, Record, TowardStart, adamw, attached, base, groups, inputs, lora_config, merge, plain, stir, trained,
    twice,
)  # fmt: skip

CALIBRATION = 3  # batches
DAMPING = 0.01
GAMMA = 16


# Statistics of the base


def maps(model):
    return {plain(n): m for n, m in model.named_modules() if any(n.endswith(f".{end}") for end in ENDINGS)}


def seen(batches):
    """The inputs of every map in the first batches, without padding, `[n, d_in]`."""
    model, found = base().eval(), {}
    for batch in batches[:CALIBRATION]:
        given = inputs(batch)
        real = given["attention_mask"].bool()

        def hook(name):
            return lambda _module, args, _out: found.setdefault(name, []).append(args[0][real].detach())

        handles = [module.register_forward_hook(hook(name)) for name, module in maps(model).items()]
        with torch.no_grad():
            model(**given)
        for handle in handles:
            handle.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}


def gradients(batches):
    """The mean over batches of the gradient of each batch's mean loss, `[d_out, d_in]`."""
    model = base().eval()
    sums = {name: 0 for name in maps(model)}
    for batch in batches[:CALIBRATION]:
        model.zero_grad()
        F.cross_entropy(model(**inputs(batch)).logits, torch.tensor(batch["labels"])).backward()
        sums = {name: sums[name] + module.weight.grad.clone() for name, module in maps(model).items()}
    return {name: total / CALIBRATION for name, total in sums.items()}


# Starts: `A₀ [r, d_in]` and `B₀ [d_out, r]` of a base `[d_out, d_in]`


def covariance(x):
    """`E[xxᵀ]` in units of its mean diagonal, and what the code adds to the diagonal."""
    c = x.T @ x / len(x)
    return c / c.diagonal().mean() + DAMPING * torch.eye(len(c))


def corda(weight, x, scale, part):
    """Eqs. 2 to 5."""
    c = covariance(x)
    u, s, vh = torch.linalg.svd(weight @ c, full_matrices=False)
    a = (s[part] / scale).sqrt()[:, None] * torch.linalg.solve(c, vh[part].T).T  # C is symmetric
    b = u[:, part] * (s[part] / scale).sqrt()
    every = u @ torch.diag(s) @ vh @ torch.linalg.inv(c)
    assert torch.allclose(every, weight, rtol=0, atol=1e-10)
    return a, b


def lora_ga(weight, gradient, _scale, _part):
    """Theorems 3.1 and 3.2; `m` is the output width."""
    u, _, vh = torch.linalg.svd(gradient, full_matrices=False)
    length = weight.shape[0] ** 0.25 / GAMMA**0.5
    return length * vh[:RANK], length * u[:, RANK : 2 * RANK]


def residual(name, start, statistic, written, part, batches, seed, config=lora_config, shipped=None, toward_start=False):
    """PEFT's LoRA over the base less a start."""
    starts = {}

    def make():
        model = get_peft_model(base(), config()).double().train()
        for key, module in attached(model).items():
            weight, scale = module.base_layer.weight, module.scaling["default"]
            a, b = start(weight.detach(), statistic[key], scale, part)
            starts[key] = weight.detach().clone(), a, b
            weight.data = weight.data - scale * b @ a
            module.lora_A["default"].weight.data, module.lora_B["default"].weight.data = a.clone(), b.clone()
        with torch.no_grad():
            first, untouched = inputs(batches[0]), base()
            assert torch.allclose(model(**first).logits, untouched(**first).logits, rtol=0, atol=1e-11)
        stir(model, seed, near=True)
        return model

    def write(model, record):
        modules = attached(model)
        (record.setting["scale"],) = {module.scaling["default"] for module in modules.values()}
        pairs = {f"{key}.start_{side}": p for key in modules for side, p in zip("ab", starts[key][1:])}
        record.setting["frozen"] = [[key, list(p.shape)] for key, p in pairs.items()]
        record.add("frozen", torch.cat([p.flatten() for p in pairs.values()]))
        statistics(record, {key: written(statistic[key]) for key in modules})
        if shipped:
            shipped({key: starts[key] for key in modules}, part)
        merge(model, record, batches)
        record.write(name)

    def optimizer_of(model):
        targets = {}
        for key, module in attached(model).items():
            _, a, b = starts[key]
            targets |= {module.lora_A["default"].weight: a, module.lora_B["default"].weight: b}
        return TowardStart(groups(model), targets)

    twice(make, batches, optimizer_of if toward_start else adamw, write)


def statistics(record, found):
    record.setting["calibration_batches"] = CALIBRATION
    record.setting["statistics"] = [[name, list(value.shape)] for name, value in found.items()]
    record.add("statistics", torch.cat([value.flatten() for value in found.values()]))


def agrees_with_peft(xs):
    """PEFT's own decomposition with this covariance, in f32. It adds the damping itself."""

    def check(starts, part):
        method = "ipm" if part.start is None else "kpm"
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "covariance.pt")
            model = base().float()
            wanted = {name: x.T @ x / len(x) for name, x in xs.items()}
            wanted = {name: (c / c.diagonal().mean()).float() for name, c in wanted.items()}
            names = {plain(name): name for name, module in model.named_modules() if plain(name) in wanted}
            torch.save({names[name]: c for name, c in wanted.items()}, file)
            corda_config = CordaConfig(corda_method=method, covariance_file=file)
            torch.set_default_dtype(torch.float32)
            config = lora_config(init_lora_weights="corda", corda_config=corda_config)
            preprocess_corda(model, config)
            theirs = attached(get_peft_model(model, config))
            torch.set_default_dtype(torch.float64)
        for key, module in theirs.items():
            _, a, b = starts[key]
            found = module.lora_A["default"].weight.double(), module.lora_B["default"].weight.double()
            sign = (found[1] * b).sum(0).sign()
            for one, other in zip(found, (sign[:, None] * a, sign * b)):
                error = (one - other).abs().max() / other.abs().max()
                assert error < 1e-4, (key, method, error)  # f32 through an inverse; 4e-5 is reached

    return check


# EVA


def eva(batches, seed):
    xs = seen(batches)
    first = {name: torch.linalg.svd(x, full_matrices=False)[2][:RANK] for name, x in xs.items()}  # Algorithm 1 on all rows at once
    for name, x in xs.items():
        # PEFT's centres its inputs, which does nothing to rows that come with their opposites.
        theirs = IncrementalPCA(n_components=RANK, batch_size=2 * len(x)).fit(torch.cat([x, -x])).components_
        sign = (theirs * first[name]).sum(1).sign()
        assert (theirs - sign[:, None] * first[name]).abs().max() < 1e-9, name

    def make():
        model = get_peft_model(base(), lora_config()).double().train()
        for key, module in attached(model).items():
            module.lora_A["default"].weight.data = first[key].clone()
        stir(model, seed)
        return model

    def write(model, record):
        (record.setting["scale"],) = {module.scaling["default"] for module in attached(model).values()}
        names = [name for name, _ in record.setting["layout"] if "lora_A" in name]
        record.add("first_a", torch.cat([first[name.removesuffix(".lora_A.weight")].flatten() for name in names]))
        statistics(record, {name: x.T @ x / len(x) for name, x in xs.items()})
        merge(model, record, batches)
        record.write("eva")

    twice(make, batches, adamw, write)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    batches = json.loads((OUT / "batches.json").read_text())
    xs = seen(batches)
    moment = lambda x: x.T @ x / len(x)
    for name, part, seed in (("corda", slice(None, RANK), 50), ("corda_knowledge", slice(-RANK, None), 51)):
        residual(name, corda, xs, moment, part, batches, seed, shipped=agrees_with_peft(xs))
    residual("corda_start", corda, xs, moment, slice(None, RANK), batches, 50, toward_start=True)
    rslora = lambda **options: lora_config(use_rslora=True, **options)
    residual("lora_ga", lora_ga, gradients(batches), lambda g: g, None, batches, 52, config=rslora)
    eva(batches, 53)
    assert ALPHA / RANK != 1


if __name__ == "__main__":
    main()
