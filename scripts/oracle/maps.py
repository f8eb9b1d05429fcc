"""Twenty steps of the methods that turn, scale or shift what the base does, beside those of variants.py in crates/trainer/tests/fixtures/parity.

PEFT's modules where they compute in f64; the papers' equations in plain torch where PEFT has no such method (SVDiff) or computes in f32. Base,
batches, optimizer and records are those of variants.py.
"""

import json
import math

import peft.tuners.boft.layer as boft_layer
import torch
from peft import (
    BOFTConfig, DeloraConfig, FourierFTConfig, HRAConfig, IA3Config, OFTConfig, ShiraConfig, TaskType, get_peft_model,
)  # fmt: skip
from peft.tuners.c3a.utils import get_circulant_fast
from torch import nn
from transformers.utils import logging
from variants import (
    ENDINGS, OUT, TowardStart, adamw, base, exact, groups, inputs, noise, plain, stream, trained, twice, unit,
)  # fmt: skip


OWN = ("oft_R", "boft_R", "boft_s", "hra_u", "ia3_l", "shira_weight", "delora_A", "delora_B", "delora_lambda")
WRITTEN_OUT = ("svdiff_shift", "fourierft_spectrum", "c3a_kernel")


def is_own(name):
    return any(part in name.split(".") for part in OWN + WRITTEN_OUT)


def stir(model, seed):
    """Adapters away from their start, so that no gradient is 0: what starts at 0 by 0.4, the rest by a fifth of what it starts at."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        if is_own(name):
            drawn = noise(generator, parameter.shape)
            starts_at_zero = not parameter.detach().any()
            parameter.data = exact(0.4 * drawn if starts_at_zero else parameter.data * (1 + 0.2 * drawn))


def attached(model):
    """Adapted modules by plain name."""
    return {plain(name): module for name, module in model.named_modules() if any(hasattr(module, part) for part in OWN)}


def toward_one(part):
    """AdamW whose decay pulls what `part` names toward 1, where it starts."""

    def make(model):
        return TowardStart(groups(model), {p: torch.ones_like(p).detach() for n, p in trained(model).items() if part in n})

    return make


def peft_run(name, batches, config, seed, rank, optimizer_of=adamw, place=None):
    """`place` puts on a model what PEFT draws and the program draws otherwise."""

    def make():
        torch.manual_seed(seed)  # of first values that PEFT draws
        model = get_peft_model(base(), config()).double().train()
        if place:
            place(model)
        with torch.no_grad():
            first = inputs(batches[0])
            assert torch.allclose(model(**first).logits, base()(**first).logits, rtol=0, atol=1e-12), name
        stir(model, seed)
        return model

    def write(model, record):
        record.setting["rank"] = rank
        names = sorted(attached(model))
        assert len(names) == 10, names
        merged = model.merge_and_unload()
        modules = {plain(name): module for name, module in merged.named_modules()}
        record.merged({name: modules[name].weight for name in names})
        with torch.no_grad():
            record.add("merged_logits", merged(**inputs(batches[0])).logits)
        record.write(name)

    twice(make, batches, optimizer_of, write)


def oft(batches):
    for kind in ("neumann", "exact"):
        config = lambda: OFTConfig(
            r=0, oft_block_size=4, use_cayley_neumann=kind == "neumann", module_dropout=0.0, target_modules=ENDINGS,
            task_type=TaskType.SEQ_CLS,
        )  # fmt: skip
        peft_run("oft" + "_exact" * (kind == "exact"), batches, config, 50, 4)


class BlockDiagonal:
    """What PEFT's CUDA kernel computes: `[m, n, b, b]` to `[m, n·b, n·b]`."""

    @staticmethod
    def apply(blocks):
        return torch.stack([torch.block_diag(*factor) for factor in blocks])


def boft(batches):
    """PEFT without its CUDA kernel, which is for speed, has one factor alone; here the kernel's work is done in torch."""
    boft_layer.get_fbd_cuda, boft_layer.FastBlockDiag = lambda: True, BlockDiagonal
    config = lambda: BOFTConfig(
        boft_block_size=2, boft_n_butterfly_factor=2, boft_dropout=0.0, target_modules=ENDINGS, task_type=TaskType.SEQ_CLS
    )
    peft_run("boft", batches, config, 51, 2)
    peft_run("boft_start", batches, config, 51, 2, optimizer_of=toward_one("boft_s"))


def hra(batches):
    config = lambda: HRAConfig(r=4, target_modules=ENDINGS, task_type=TaskType.SEQ_CLS)
    peft_run("hra", batches, config, 52, 4)


def ia3(batches):
    config = lambda: IA3Config(
        target_modules=ENDINGS, feedforward_modules=["output.dense"], task_type=TaskType.SEQ_CLS
    )
    peft_run("ia3", batches, config, 53, 0)
    peft_run("ia3_start", batches, config, 53, 0, optimizer_of=toward_one("ia3_l"))


# Equations


class Added(nn.Module):
    """`y = W x + bias` with a `W` that a function makes of the base's weight and one parameter, called `key`."""

    def __init__(self, linear, key, value, weight_of):
        super().__init__()
        self.base, self.key, self.weight_of = linear.requires_grad_(False), key, weight_of
        self.register_parameter(key, nn.Parameter(value))

    @property
    def weight(self):
        return self.weight_of(self.base.weight, getattr(self, self.key))

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.base.bias)


def written_out(name, batches, seed, key, parts, rank, setting=None):
    """A run of maps whose `parts(linear)` are the parameter's first value and the function of it."""

    def make():
        model = base()
        for parameter in model.bert.parameters():
            parameter.requires_grad_(False)
        for full, module in list(model.named_modules()):
            if any(full.endswith(f".{end}") for end in ENDINGS):
                parent, _, child = full.rpartition(".")
                setattr(model.get_submodule(parent), child, Added(module, key, *parts(module)))
        with torch.no_grad():
            first = inputs(batches[0])
            assert torch.allclose(model(**first).logits, base()(**first).logits, rtol=0, atol=1e-12), name
        stir(model, seed)
        return model.double().train()

    def write(model, record):
        maps = {plain(n): m.weight.detach() for n, m in model.named_modules() if isinstance(m, Added)}
        assert len(maps) == 10
        record.setting |= {"rank": rank} | (setting or {})
        record.merged(maps)
        with torch.no_grad():
            record.add("merged_logits", model(**inputs(batches[0])).logits)
        record.write(name)

    twice(make, batches, adamw, write)


def svdiff(batches):
    def parts(linear):
        u, s, vh = torch.linalg.svd(linear.weight.detach(), full_matrices=False)
        return torch.zeros_like(s), lambda _weight, shift: (u * torch.relu(s + shift)) @ vh

    written_out("svdiff", batches, 54, "svdiff_shift", parts, 0)


def distinct(draws, n, of):
    """`n` different numbers below `of`, as in crates/variants/src/stream.rs."""
    moved, found = {}, []
    for at in range(n):
        chosen = at + int(unit(draws) * (of - at))
        found.append(moved.get(chosen, chosen))
        moved[chosen] = moved.get(at, at)
    return found


def fourierft(batches):
    """PEFT transforms in f32: it must agree to f32's rounding."""
    n, scale = 12, 10.0

    def drawn(seed, d_in, d_out):
        flat = torch.tensor(distinct(stream(seed, "init", f"fourier.{d_in}x{d_out}"), n, d_in * d_out))
        return torch.stack([flat // d_in, flat % d_in])

    # A wave of frequency 0 over the outputs moves them all alike, which the layer norm behind 8 outputs does not see: no gradient.
    seed = next(s for s in range(777, 2000) if all(drawn(s, d_in, 8)[0].min() > 0 for d_in in (8, 12)))

    def indices(linear):
        return drawn(seed, linear.in_features, linear.out_features)

    def parts(linear):
        rows, columns = indices(linear)

        def weight_of(weight, spectrum):
            dense = torch.zeros_like(weight).index_put((rows, columns), spectrum)
            return weight + scale * torch.fft.ifft2(dense).real

        return torch.zeros(n), weight_of

    written_out("fourierft", batches, 55, "fourierft_spectrum", parts, n, {"scale": scale, "places_seed": seed})
    torch.set_default_dtype(torch.float32)
    config = FourierFTConfig(n_frequency=n, scaling=scale, target_modules=ENDINGS, task_type=TaskType.SEQ_CLS)
    model = get_peft_model(base().float(), config)
    modules = [module for module in model.modules() if hasattr(module, "fourierft_spectrum")]
    assert len(modules) == 10
    for module in modules:
        linear, generator = module.get_base_layer(), torch.Generator().manual_seed(1)
        module.indices["default"] = indices(linear)
        module.fourierft_spectrum["default"].data = spectrum = noise(generator, (n,)).float()
        _, weight_of = parts(linear)
        wanted = weight_of(torch.zeros(linear.weight.shape, dtype=torch.float64), spectrum.double())
        assert torch.allclose(module.get_delta_weight("default").double(), wanted, rtol=0, atol=1e-5)
    torch.set_default_dtype(torch.float64)


def c3a(batches):
    """PEFT's own convolution, which its layer runs in f32."""
    b = 4

    def parts(linear):
        d_out, d_in = linear.weight.shape
        return torch.zeros(d_out // b, d_in // b, b), lambda weight, kernel: weight + get_circulant_fast(kernel) / d_in

    written_out("c3a", batches, 56, "c3a_kernel", parts, b)


def shira(batches):
    rank = 2

    def place(model):
        for name, module in attached(model).items():
            d_out, d_in = module.get_base_layer().weight.shape
            flat = torch.tensor(sorted(distinct(stream(0, "init", f"{name}.mask"), rank * (d_in + d_out), d_in * d_out)))
            found = torch.stack([flat % d_out, flat // d_out])  # the program counts along [d_in, d_out]
            assert found.shape == module.shira_indices["default"].shape
            module.shira_indices["default"] = found

    config = lambda: ShiraConfig(r=rank, target_modules=ENDINGS, task_type=TaskType.SEQ_CLS)
    peft_run("shira", batches, config, 57, rank, place=place)


def delora(batches):
    config = lambda: DeloraConfig(r=3, target_modules=ENDINGS, task_type=TaskType.SEQ_CLS)
    peft_run("delora", batches, config, 58, 3)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    batches = json.loads((OUT / "batches.json").read_text())
    oft(batches)
    boft(batches)
    hra(batches)
    ia3(batches)
    svdiff(batches)
    fourierft(batches)
    c3a(batches)
    shira(batches)
    delora(batches)


if __name__ == "__main__":
    main()
