"""What the authors' code makes of every variant in twenty steps, written to crates/trainer/tests/fixtures/parity.

    config.json, model.safetensors   a tiny random BERT, f32
    batches.json                     five batches of four rows, used in turn
    <variant>.safetensors            values in f64; README.md has the list

PEFT's modules and optimizers where PEFT has the method. DyLoRA, AdaLoRA's allocator and the decompositions that PiSSA, MiLoRA and OLoRA
start at are written out here from the papers' equations, in plain torch; the allocator and, but for MiLoRA, the decompositions run beside
PEFT's and must agree with it. All runs are in f64 from values that f32 holds exactly, so that an f32 run starts from the same numbers;
decompositions alone have all their digits.
"""

import hashlib
import json
import math
import os
from contextlib import nullcontext
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import peft.optimizers.lorafa as lorafa
import torch
import torch.nn.functional as F
from peft import AdaLoraConfig, LoraConfig, TaskType, VeraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import save_file
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, Trainer, get_linear_schedule_with_warmup
from transformers.utils import logging

OUT = Path(__file__).resolve().parents[2] / "crates/trainer/tests/fixtures/parity"
STEPS = 20
RANK, ALPHA = 3, 5
RATE, HEAD_RATE = 1e-2, 4e-3
DECAY = 0.1
EPS = 1e-8
SEED = 15  # of the streams that this program draws for itself: DyLoRA's ranks, VeRA's pair and what restarts draw
ENDINGS = ["query", "value", "intermediate.dense", "output.dense"]  # 8x8, 8x12 and 12x8; two maps end in output.dense
LENGTHS = [7, 3, 5, 2]


# The program's own streams, so that its draws are what the references use.


def chacha_words(key):
    """ChaCha20's words from block 0 on, nonce 0."""
    rotate = lambda x, n: ((x << n) | (x >> (32 - n))) & 0xFFFFFFFF
    constants = [int.from_bytes(b"expand 32-byte k"[i : i + 4], "little") for i in range(0, 16, 4)]
    words = [int.from_bytes(key[i : i + 4], "little") for i in range(0, 32, 4)]
    counter = 0
    while True:
        start = constants + words + [counter & 0xFFFFFFFF, counter >> 32, 0, 0]
        x = list(start)
        for _ in range(10):
            for a, b, c, d in (
                (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
            ):  # fmt: skip
                for one, two, three, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                    x[one] = (x[one] + x[two]) & 0xFFFFFFFF
                    x[three] = rotate(x[three] ^ x[one], n)
        yield from ((a + b) & 0xFFFFFFFF for a, b in zip(x, start))
        counter += 1


def stream(seed, kind, name):
    """64-bit draws of `(seed, stream, name)`, as in crates/variants/src/stream.rs."""
    kinds = ["init", "data", "dropout", "rank"]
    text = b"lora-lab stream 1\0" + bytes([kinds.index(kind)]) + seed.to_bytes(8, "little") + name.encode()
    words = chacha_words(hashlib.sha256(text).digest())
    while True:
        low, high = next(words), next(words)
        yield low | high << 32


def unit(draws):
    return (next(draws) >> 11) / 2**53


def uniform(seed, name, shape, fan_in):
    """U(±√(6/fan_in)), row-major."""
    draws, bound = stream(seed, "init", name), math.sqrt(6 / fan_in)
    return torch.tensor([(2 * unit(draws) - 1) * bound for _ in range(math.prod(shape))]).reshape(shape)


def ranks():
    """DyLoRA's rank of every step: uniform over 1..RANK."""
    return [1 + int(unit(stream(SEED, "rank", str(step))) * RANK) for step in range(STEPS)]


# Model and batches


def exact(tensor):
    """Rounded to what f32 holds."""
    return tensor.float().double()


def noise(generator, shape):
    return torch.randn(shape, generator=generator, dtype=torch.float32).double()


def make_base():
    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=10, type_vocab_size=2, hidden_act="gelu", num_labels=3,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model, generator = BertForSequenceClassification(config), torch.Generator().manual_seed(1)
    for name, parameter in sorted(model.named_parameters()):
        drawn = noise(generator, parameter.shape)
        is_norm = parameter.dim() == 1 and name.endswith("weight")
        parameter.data = (1 + 0.25 * drawn if is_norm else 0.4 * drawn).float()
    model.float().save_pretrained(OUT)
    batches = []
    for index in range(5):
        draw = torch.Generator().manual_seed(20 + index)
        lengths = LENGTHS[index % 4 :] + LENGTHS[: index % 4]
        ids = [torch.randint(1, 20, (length,), generator=draw).tolist() for length in lengths]
        types = [[int(at >= (length + 1) // 2) for at in range(length)] for length in lengths]
        labels = torch.randint(0, 3, (4,), generator=draw).tolist()
        batches.append({"ids": ids, "types": types, "labels": labels})
    (OUT / "batches.json").write_text(json.dumps(batches) + "\n")
    return batches


def inputs(batch):
    width = max(len(row) for row in batch["ids"])
    pad = lambda rows: torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = pad([[1] * len(row) for row in batch["ids"]])
    return {"input_ids": pad(batch["ids"]), "token_type_ids": pad(batch["types"]), "attention_mask": mask}


def base():
    model = BertForSequenceClassification.from_pretrained(OUT, dtype=torch.float32, attn_implementation="eager")
    return model.double().train()  # dropout is 0


def plain(name):
    """The name of a parameter in the file of the base, or behind its map's."""
    for part in ("base_model.model.", "bert."):
        name = name.removeprefix(part)
    for part in (".base_layer", ".modules_to_save", ".default"):
        name = name.replace(part, "")
    return name


def is_head(name):
    return plain(name).startswith("classifier")


def trained(model):
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def stir(model, seed, near=False):
    """Adapters away from their start, so that no gradient is 0; magnitudes, and `near` their start all, a fifth from theirs."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" not in name and "vera_lambda" not in name:
            continue
        drawn = noise(generator, parameter.shape)
        if near or "magnitude" in name:
            parameter.data = exact(parameter.data * (1 + 0.2 * drawn))
        else:
            parameter.data = exact(0.4 * drawn)


# One run


def groups(model, rate=RATE):
    """One group per parameter: decay as transformers' Trainer has it, the head at its own rate."""
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    each = []
    for name, parameter in trained(model).items():
        own = HEAD_RATE if is_head(name) else rate
        each.append({"params": [parameter], "lr": own, "weight_decay": DECAY if name in decayed else 0.0})
    return each


def adamw(model, **options):
    return torch.optim.AdamW(groups(model, **options), eps=EPS)


class TowardStart(torch.optim.AdamW):
    """AdamW whose decay is written out for what `targets` has, by parameter: `p - lr * decay * (p - target)`, before the rest of the step."""

    def __init__(self, groups, targets):
        self.targets = targets
        for group in groups:
            if group["params"][0] in targets:
                assert group["weight_decay"] == DECAY
                group["weight_decay"] = 0.0
        super().__init__(groups, eps=EPS)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            (p,) = group["params"]
            if p in self.targets:
                p.copy_(p - group["lr"] * DECAY * (p - self.targets[p]))
        return super().step(closure)


def adam_state(optimizer, parameters):
    """First and second moments by name; PEFT's LoRA-FA keeps those of a pair under the map's name."""
    first, second = {}, {}
    for name, parameter in parameters.items():
        if parameter in optimizer.state:
            state, suffix = optimizer.state[parameter], ""
        elif name in optimizer.state:
            state, suffix = optimizer.state[name], ""
        elif "lora" in name and name[: name.find("lora")] + "lora" in optimizer.state:
            state, suffix = optimizer.state[name[: name.find("lora")] + "lora"], "_B"
        else:  # it has rested so far
            state, suffix = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}, ""
        first[name], second[name] = state["exp_avg" + suffix], state["exp_avg_sq" + suffix]
    return {"m": first, "v": second}


class Record:
    """Tensors of one fixture; what has one value per parameter is packed end to end in the order of a layout."""

    def __init__(self, model):
        self.model, self.tensors = model, {}
        self.names = sorted(trained(model), key=plain)
        self.setting = {
            "rank": RANK, "alpha": ALPHA, "learning_rate": RATE, "head_learning_rate": HEAD_RATE,
            "weight_decay": DECAY, "epsilon": EPS, "steps": STEPS,
        }  # fmt: skip
        shapes = trained(model)
        self.setting["layout"] = [[plain(name), list(shapes[name].shape)] for name in self.names]
        self.pack("start", shapes)
        frozen = {name: p for name, p in model.named_parameters() if "lora_A" in name and not p.requires_grad}
        self.setting["frozen"] = [[plain(name), list(p.shape)] for name, p in frozen.items()]
        if frozen:
            self.tensors["frozen"] = torch.cat([p.detach().flatten() for p in frozen.values()])

    def pack(self, key, values):
        self.tensors[key] = torch.cat([values[name].detach().flatten() for name in self.names]).clone()

    def add(self, key, value):
        value = torch.as_tensor(value)
        self.tensors[key] = value.double().detach().clone()

    def state(self, mark, optimizer):
        self.pack(f"w{mark}", trained(self.model))
        for key, values in adam_state(optimizer, trained(self.model)).items():
            self.pack(f"{key}{mark}", values)

    def merged(self, weights):
        """Merged weights by map, as torch keeps them."""
        self.setting["maps"] = [[name, list(weight.shape)] for name, weight in weights.items()]
        self.add("merged", torch.cat([weight.flatten() for weight in weights.values()]))

    def write(self, name):
        path = OUT / f"{name}.safetensors"
        tensors = {key: value.contiguous() for key, value in self.tensors.items()}
        save_file(tensors, path, metadata={"setting": json.dumps(self.setting, sort_keys=True)})
        assert path.stat().st_size < 100_000, (name, path.stat().st_size)


def clip_at(norms):
    """Between the norms of the run, so that some steps are clipped and some are not; a number that f32 holds."""
    return float(torch.tensor(sorted(norms)[len(norms) // 3]).float())


def run(model, batches, optimizer, clip, record=None, before=None, after=None, rates=None):
    """Twenty steps in PEFT's order: backward, clip, step, allocate, zero. Returns the norms.

    `before` and `after` a step are told its number; `rates` gives the multiple of the peak rate at a step, a line to 0 where there is none.
    """
    if rates:
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rates)
    else:
        schedule = get_linear_schedule_with_warmup(optimizer, 0, STEPS)
    series = {"losses": [], "penalties": [], "norms": []}
    for step in range(STEPS):
        if before:
            before(step)
        batch = batches[step % len(batches)]
        labels = torch.tensor(batch["labels"])
        out = model(**inputs(batch), labels=labels)  # PEFT's AdaLoRA adds its penalty to this loss
        task = F.cross_entropy(out.logits, labels)
        out.loss.backward()
        parameters = trained(model)
        if record and step == 0:
            record.pack("grad", {name: p.grad for name, p in parameters.items()})
            record.add("logits", out.logits)
        norm = nn.utils.clip_grad_norm_(list(parameters.values()), clip)
        optimizer.step()
        if after:
            after(step)
        if record and step == 0:
            record.state(1, optimizer)
        schedule.step()
        optimizer.zero_grad()
        series["losses"].append(task.item())
        series["penalties"].append(out.loss.item() - task.item())
        series["norms"].append(norm.item())
    if record:
        record.setting["clip"] = clip
        for key, values in series.items():
            record.add(key, values)
        record.state(STEPS, optimizer)
        with torch.no_grad():
            record.add("last_logits", model(**inputs(batches[0])).logits)
        over = [norm > clip for norm in series["norms"]]
        assert 5 <= sum(over) <= STEPS - 2, series["norms"]
    return series["norms"]


def attached(model):
    """Adapted modules by plain name."""
    known = ("lora_A", "lora_embedding_A", "vera_lambda_b")
    return {plain(name): m for name, m in model.named_modules() if any(len(getattr(m, key, [])) for key in known)}


def merge(model, record, batches):
    """Merged weights and the merged model's logits; the model is plain afterwards."""
    names = list(attached(model))
    merged = model.merge_and_unload()
    modules = {plain(name): module for name, module in merged.named_modules()}
    record.merged({name: modules[name].weight for name in names})
    with torch.no_grad():
        record.add("merged_logits", merged(**inputs(batches[0])).logits)


# PEFT


def lora_config(endings=ENDINGS, **options):
    options = {"r": RANK} | options
    return LoraConfig(lora_alpha=ALPHA, lora_dropout=0.0, target_modules=endings, task_type=TaskType.SEQ_CLS, **options)


def peft_model(config, seed):
    model = get_peft_model(base(), config).double().train()
    stir(model, seed)
    return model


def freeze_a(model):
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            parameter.requires_grad_(False)
    return model


def twice(make, batches, optimizer_of, write, **hooks):
    """A first run finds where to clip; the second is recorded. `hooks` make `run`'s callbacks for a model and its record."""
    model = make()
    each = {key: hook(model, None) for key, hook in hooks.items()}
    clip = clip_at(run(model, batches, optimizer_of(model), math.inf, **each))
    model = make()
    record = Record(model)
    each = {key: hook(model, record) for key, hook in hooks.items()}
    optimizer = optimizer_of(model)
    run(model, batches, optimizer, clip, record, **each)
    write(model, record)


def peft_run(name, batches, config, seed, frozen=False, optimizer_of=adamw, more=None):
    def make():
        model = peft_model(config(), seed)
        return freeze_a(model) if frozen else model

    def write(model, record):
        scales = {module.scaling["default"] for module in attached(model).values() if hasattr(module, "scaling")}
        if scales:
            (record.setting["scale"],) = scales
        if more:
            more(model, record)
        merge(model, record, batches)
        record.write(name)

    twice(make, batches, optimizer_of, write)


def orthogonal(batches, rank=4):
    """PEFT's `orthogonal`, whose rank is even; its first product is zero."""

    def write(_model, record):
        record.setting["rank"] = rank

    options = {"init_lora_weights": "orthogonal", "r": rank}
    for module in attached(get_peft_model(base(), lora_config(**options))).values():
        for a, b in zip(module.lora_A.values(), module.lora_B.values()):
            assert a.weight.abs().max() > 0.01 and (b.weight @ a.weight).abs().max() < 1e-6
    peft_run("lora_orthogonal", batches, lambda: lora_config(**options), 62, more=write)


def dora(batches, toward_start=False):
    fresh = get_peft_model(base(), lora_config(use_dora=True)).double()
    first = {plain(name): p for name, p in fresh.named_parameters() if "magnitude" in name}

    def more(_model, record):
        names = [name for name, _ in record.setting["layout"] if "magnitude" in name]
        record.add("first_magnitudes", torch.cat([first[name] for name in names]))

    def optimizer_of(model):
        targets = {p: first[plain(name)].detach().clone() for name, p in trained(model).items() if "magnitude" in name}
        assert len(targets) == len(first) > 0
        return TowardStart(groups(model), targets)

    if toward_start:
        peft_run("dora_start", batches, lambda: lora_config(use_dora=True), 33, optimizer_of=optimizer_of)
    else:
        peft_run("dora", batches, lambda: lora_config(use_dora=True), 33, more=more)


def vera(batches, toward_start=False):
    """The pair is the one that this program draws; PEFT slices it."""
    rank, widest, rate = 5, 12, 3e-2

    def make():
        torch.manual_seed(0)  # PEFT draws a pair of its own first
        config = VeraConfig(r=rank, target_modules=ENDINGS, vera_dropout=0.0, task_type=TaskType.SEQ_CLS)
        model = get_peft_model(base(), config).double().train()
        shared = model.base_model
        own = {"vera_A": shared.vera_A["default"], "vera_B": shared.vera_B["default"]}
        assert own["vera_A"].shape == (rank, widest) and own["vera_B"].shape == (widest, rank)
        for key, fan_in, shape in (("vera_A", widest, (rank, widest)), ("vera_B", rank, (widest, rank))):
            bound = math.sqrt(6 / fan_in)  # PEFT's distribution is the one drawn here
            assert bound * 0.8 < own[key].abs().max() <= bound
            drawn = uniform(SEED, key.replace("_", "."), shape, fan_in)
            getattr(shared, key)["default"] = drawn
        for module in attached(model).values():
            module.vera_A, module.vera_B = shared.vera_A, shared.vera_B
            assert module.vera_A["default"] is shared.vera_A["default"]
        stir(model, 34)
        return model

    def write(model, record):
        record.setting |= {"rank": rank, "learning_rate": rate, "projection_seed": SEED}
        record.add("pair_a", model.base_model.vera_A["default"])
        record.add("pair_b", model.base_model.vera_B["default"])
        merge(model, record, batches)
        record.write("vera" + "_start" * toward_start)

    def optimizer_of(model):
        if not toward_start:
            return adamw(model, rate=rate)
        first = {name: p for name, p in trained(model).items() if "lambda_d" in name}  # starts at 0.1; the other vector at 0
        return TowardStart(groups(model, rate=rate), {p: torch.full_like(p, 0.1).detach() for p in first.values()})

    twice(make, batches, optimizer_of, write)


def lora_plus(batches):
    """PEFT's groups, with the head at its own rate and the embedding's factors in the group that PEFT 0.18 never fills."""
    rate, ratio, embedding_rate = 1e-3, 16, 3e-3
    endings = ENDINGS + ["word_embeddings"]
    make = lambda: lora_config(endings)

    def shipped(model, **options):
        optimizer = create_loraplus_optimizer(
            model, torch.optim.AdamW, lr=rate, loraplus_lr_ratio=ratio, eps=EPS, **options
        )
        of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        return {name: (of[id(p)]["lr"], of[id(p)]["weight_decay"]) for name, p in trained(model).items()}

    def optimizer_of(model):
        each = []
        for name, (own, decay) in shipped(model, loraplus_weight_decay=DECAY).items():
            own = HEAD_RATE if is_head(name) else embedding_rate if "embedding_" in name else own
            each.append({"params": [trained(model)[name]], "lr": own, "weight_decay": decay})
        return torch.optim.AdamW(each, eps=EPS)

    def more(model, record):
        table = lambda groups: {plain(name): list(values) for name, values in groups.items()}
        record.setting |= {
            "learning_rate": rate,
            "ratio": ratio,
            "embedding_rate": embedding_rate,
            "shipped": table(shipped(model, loraplus_weight_decay=DECAY)),
            "shipped_without_own_decay": table(shipped(model, weight_decay=DECAY)),
        }

    peft_run("lora_plus", batches, make, 35, optimizer_of=optimizer_of, more=more)


def lora_fa_optimizer(eps, decay):
    """PEFT's optimizer with a second group for the head's rate; each group carries its parameters' names, A before B."""

    def make(model):
        each = []
        for own, wanted in ((RATE, False), (HEAD_RATE, True)):
            pairs = [(n, p) for n, p in model.named_parameters() if is_head(n) == wanted and "original" not in n]
            each.append({
                "params": [p for _, p in pairs], "names": [n for n, _ in pairs], "lr": own,
                "scaling_factor": ALPHA / RANK, "weight_decay": decay,
            })  # fmt: skip
        return lorafa.LoraFAOptimizer(each, eps=eps)

    return make


def lora_fa_preconditioned(batches):
    """eps so small that its place does not matter, no decay: then PEFT's Adam is torch's. Beside it PEFT's Adam as it is."""
    make = lambda: freeze_a(peft_model(lora_config(), 36))
    tiny = 1e-30

    def write(model, record):
        record.setting |= {"weight_decay": 0.0, "epsilon": tiny, "scale": ALPHA / RANK}
        clip, last = record.setting["clip"], record.tensors["w20"].clone()
        # Autocast leaves f64 alone, so these numbers are also those without it.
        shipped, lorafa.autocast = lorafa.autocast, lambda **_: nullcontext()
        again = make()
        run(again, batches, lora_fa_optimizer(tiny, 0.0)(again), clip)
        lorafa.autocast = shipped
        assert torch.equal(last, torch.cat([trained(again)[name].detach().flatten() for name in record.names]))
        # PEFT's eps and decay as it applies them.
        theirs = make()
        record.setting["their_epsilon"], record.setting["their_decay"] = 1e-6, DECAY
        side = Record(theirs)
        run(theirs, batches, lora_fa_optimizer(1e-6, DECAY)(theirs), clip, side)
        record.tensors |= {f"their_{key}": side.tensors[key] for key in ("w1", "m1", "v1")}
        # f32 as shipped, under bf16 autocast.
        half = make().float()
        torch.set_default_dtype(torch.float32)
        side = Record(half)
        run(half, batches, lora_fa_optimizer(tiny, 0.0)(half), clip, side)
        torch.set_default_dtype(torch.float64)
        record.tensors |= {f"bf16_{key}": side.tensors[key].float() for key in ("m1", "w20")}
        merge(model, record, batches)
        record.write("lora_fa_preconditioned")

    twice(make, batches, lora_fa_optimizer(tiny, 0.0), write)


# Starts at a decomposition of the base


def decomposed(weight, start, scale):
    """`A₀ [r, d_in]` and `B₀ [d_out, r]` of a base `[d_out, d_in]`."""
    if start == "olora":  # Algorithm 1
        q, r = torch.linalg.qr(weight)
        return r[:RANK], q[:, :RANK]
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    part = {"pissa": slice(None, RANK), "milora": slice(-RANK, None)}[start]  # Eqs. 2 and 3; Eqs. 4 to 6
    a, b = (s[part] / scale).sqrt()[:, None] * vh[part], u[:, part] * (s[part] / scale).sqrt()
    assert torch.allclose(scale * b @ a, (u[:, part] * s[part]) @ vh[part], rtol=0, atol=1e-14)
    return a, b


def anchored(name, batches, seed, shipped, toward_start=False):
    """PEFT's LoRA over the residual, which PEFT's own start leaves as the base too, but decomposes in f32: `shipped` must agree."""
    starts = {}

    def make():
        model = get_peft_model(base(), lora_config()).double().train()
        for key, module in attached(model).items():
            weight, scale = module.base_layer.weight, module.scaling["default"]
            a, b = decomposed(weight.detach(), name, scale)
            starts[key] = weight.detach().clone(), a, b
            weight.data = weight.data - scale * b @ a  # Eq. 4
            module.lora_A["default"].weight.data, module.lora_B["default"].weight.data = a.clone(), b.clone()
        with torch.no_grad():
            first, untouched = inputs(batches[0]), base()
            assert torch.allclose(model(**first).logits, untouched(**first).logits, rtol=0, atol=1e-12)
        stir(model, seed, near=True)
        return model

    def agrees():
        theirs = get_peft_model(base().float(), lora_config(init_lora_weights=name))
        for key, module in attached(theirs).items():
            weight, a, b = starts[key]
            found = [module.lora_A["default"].weight, module.lora_B["default"].weight, module.base_layer.weight]
            assert found[-1].dtype == torch.float32
            sign = (found[0] * a).sum(1).sign()  # of each component; that of B must be the same
            wanted = [sign[:, None] * a, sign * b, weight - module.scaling["default"] * b @ a]
            for one, other in zip(found, wanted):
                # Roundings of f32 over the gaps between singular values; 4e-6 is reached.
                assert (one - other).abs().max() < 1e-5 * other.abs().max(), (name, key)

    def write(model, record):
        modules = attached(model)
        (record.setting["scale"],) = {module.scaling["default"] for module in modules.values()}
        pairs = {f"{key}.start_{part}": p for key in modules for part, p in zip("ab", starts[key][1:])}
        record.setting["frozen"] = [[key, list(p.shape)] for key, p in pairs.items()]
        record.add("frozen", torch.cat([p.flatten() for p in pairs.values()]))
        if shipped:
            agrees()
        merge(model, record, batches)
        record.write(name + "_start" * toward_start)

    def optimizer_of(model):
        targets = {}
        for key, module in attached(model).items():
            _, a, b = starts[key]
            targets |= {module.lora_A["default"].weight: a, module.lora_B["default"].weight: b}
        return TowardStart(groups(model), targets)

    twice(make, batches, optimizer_of if toward_start else adamw, write)


# AdaLoRA


class Allocator:
    """Eqs. 8 to 13 and the cubic of the released codes, over lists of maps; knows nothing of PEFT."""

    def __init__(self, maps, rank, target, initial, final, interval, total, beta1, beta2):
        self.maps, self.first, self.last = maps, rank * len(maps), target * len(maps)
        self.initial, self.end, self.interval, self.total = initial, total - final, interval, total
        self.beta1, self.beta2 = beta1, beta2
        zero = lambda: [[torch.zeros_like(p) for p in parts] for parts in maps.values()]
        self.mean, self.spread = zero(), zero()
        self.kept = torch.ones(len(maps), rank, dtype=torch.bool)

    def budget(self, step):
        if step <= self.initial:
            return self.first
        if step >= self.end:
            return self.last
        left = 1 - (step - self.initial) / (self.end - self.initial)
        return int(self.last + (self.first - self.last) * left**3)

    def scores(self):
        """[maps, rank]: the sensitivity of λ plus the means of those of its two vectors."""
        rows = []
        for mean, spread in zip(self.mean, self.spread):
            right, value, left = (m * s for m, s in zip(mean, spread))  # [r, d_in], [r, 1], [d_out, r]
            rows.append(value[:, 0] + right.mean(1) + left.mean(0))
        return torch.stack(rows)

    def observe(self):
        for parts, mean, spread in zip(self.maps.values(), self.mean, self.spread):
            for index, p in enumerate(parts):
                now = (p * p.grad).abs().detach()
                mean[index] = self.beta1 * mean[index] + (1 - self.beta1) * now
                spread[index] = self.beta2 * spread[index] + (1 - self.beta2) * (now - mean[index]).abs()

    def step(self, step):
        """Budget, scores and threshold, where one was drawn; the pattern is in `kept`."""
        if step < self.end:
            self.observe()
        due = step == self.end or self.initial < step < self.end and step % self.interval == 0
        scores, threshold = self.scores(), math.nan
        if due:
            order = scores.flatten().sort().values
            gone = len(order) - self.budget(step)
            threshold = order[gone - 1].item()
            assert (order[gone] - order[gone - 1]) / order[gone] > 1e-6, "a near tie would decide by rounding"
            self.kept = scores > threshold
        return self.budget(step), scores, threshold


def adalora(batches):
    rank, target, initial, final, interval, beta1, beta2, weight = 4, 2, 3, 5, 2, 0.85, 0.8, 0.1

    def make():
        config = AdaLoraConfig(
            init_r=rank, target_r=target, tinit=initial, tfinal=final, deltaT=interval, total_step=STEPS, beta1=beta1,
            beta2=beta2, orth_reg_weight=weight, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=ENDINGS,
            task_type=TaskType.SEQ_CLS,
        )  # fmt: skip
        return peft_model(config, 40)

    def after(model, record):
        theirs = model.base_model
        modules = attached(model)
        names = sorted(modules)
        maps = {n: [getattr(modules[n], f"lora_{part}")["default"] for part in "AEB"] for n in names}
        own = Allocator(maps, rank, target, initial, final, interval, STEPS, beta1, beta2)
        rows = {key: [] for key in ("budgets", "thresholds", "scores", "kept", "lambda")}

        def act(step):
            budget, scores, threshold = own.step(step)
            their_budget = theirs.rankallocator.budget_schedule(step)[0]
            theirs.update_and_allocate(step)
            if step < own.end:  # afterwards PEFT has forgotten its averages
                for name, mean, spread in zip(names, own.mean, own.spread):
                    for part, m, s in zip("AEB", mean, spread):
                        key = next(k for k in theirs.rankallocator.exp_avg_ipt if plain(k) == f"{name}.lora_{part}")
                        assert torch.allclose(theirs.rankallocator.exp_avg_ipt[key], m, rtol=1e-12, atol=0)
                        assert torch.allclose(theirs.rankallocator.exp_avg_unc[key], s, rtol=1e-12, atol=0)
            pattern = {plain(k): v for k, v in (model.peft_config["default"].rank_pattern or {}).items()}
            for index, name in enumerate(names):
                assert pattern.get(f"{name}.lora_E", [True] * rank) == own.kept[index].tolist(), (step, name)
            assert budget == their_budget, step
            values = torch.stack([maps[name][1][:, 0].detach() for name in names])
            for key, value in zip(rows, (budget, threshold, scores, own.kept, values)):
                rows[key].append(torch.as_tensor(value).double())
            if record is not None and step == own.end - 1:
                record.pack("ipt_mean", by_parameter(own.mean))
                record.pack("ipt_spread", by_parameter(own.spread))
            if record is not None and step == STEPS - 1:
                record.setting["allocated"] = names
                for key, values in rows.items():
                    record.add(key, torch.stack(values))
                assert len({tuple(k.flatten().tolist()) for k in rows["kept"]}) > 3, "the pattern changes"
                revived = [(a == 0) & (b == 1) for a, b in zip(rows["kept"], rows["kept"][1:])]
                assert torch.stack(revived).any(), "a pruned component comes back"

        def by_parameter(averages):
            """Zero for the head, which has none."""
            by = {f"{n}.lora_{part}": v for n, parts in zip(names, averages) for part, v in zip("AEB", parts)}
            return {name: by.get(plain(name), torch.zeros_like(p)) for name, p in trained(model).items()}

        if record is not None:  # Eq. 4 of the paper: squared norms
            eye = torch.eye(rank)
            grams = [g for a, _, b in maps.values() for g in (a @ a.T - eye, b.T @ b - eye)]
            record.setting["penalty_of_the_paper"] = weight * sum(g.square().sum() for g in grams).item()
            record.setting["penalty"] = weight * sum(g.norm() for g in grams).item() / len(grams)
        return act

    def write(model, record):
        (scale,) = {m.scaling["default"] / (m.ranknum["default"] + 1e-5).item() for m in attached(model).values()}
        record.setting |= {
            "rank": rank, "scale": scale, "target_rank": target, "initial_steps": initial, "final_steps": final,
            "interval": interval, "beta1": beta1, "beta2": beta2, "orthogonality": weight,
        }  # fmt: skip
        merge(model, record, batches)
        record.write("adalora")

    twice(make, batches, adamw, write, after=after)


# DyLoRA


class Nested(nn.Module):
    """Eqs. 5 to 7: `W0 x + (α/b) B[:, :b] A[:b] x`; `detached` keeps the gradient of the first b - 1 away, as the released code does."""

    def __init__(self, linear, generator, detached):
        super().__init__()
        self.base, self.detached, self.b = linear.requires_grad_(False), detached, RANK
        self.lora_A = nn.Linear(linear.in_features, RANK, bias=False)  # holders alone, for PEFT's names
        self.lora_B = nn.Linear(RANK, linear.out_features, bias=False)
        for holder in (self.lora_A, self.lora_B):
            holder.weight.data = exact(0.4 * noise(generator, holder.weight.shape))

    def factors(self):
        a, b = self.lora_A.weight[: self.b], self.lora_B.weight[:, : self.b]
        if self.detached:
            a = torch.cat([a[:-1].detach(), a[-1:]])
            b = torch.cat([b[:, :-1].detach(), b[:, -1:]], dim=1)
        return a, b

    def forward(self, x):
        a, b = self.factors()
        return self.base(x) + ALPHA / self.b * (x @ a.T) @ b.T

    @property
    def weight(self):
        a, b = self.factors()
        return self.base.weight + ALPHA / self.b * b @ a


class RowAdam(torch.optim.Optimizer):
    """Adam with decoupled decay, with a count per number: what `moves` keeps still keeps value, moments, count and decay."""

    def __init__(self, groups, moves):
        super().__init__(groups, {"eps": EPS})
        self.moves = moves

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state, g = self.state[p], p.grad
                if not state:
                    state.update({key: torch.zeros_like(p) for key in ("exp_avg", "exp_avg_sq", "count")})
                move = self.moves(p)
                count = state["count"] + 1
                m = 0.9 * state["exp_avg"] + 0.1 * g
                v = 0.999 * state["exp_avg_sq"] + 0.001 * g * g
                ratio = (m / (1 - 0.9**count)) / ((v / (1 - 0.999**count)).sqrt() + group["eps"])
                new = p - group["lr"] * group["weight_decay"] * p - group["lr"] * ratio
                for key, value in (("count", count), ("exp_avg", m), ("exp_avg_sq", v)):
                    state[key] = torch.where(move, value, state[key])
                p.copy_(torch.where(move, new, p))


def dylora(batches, frozen, dense):
    """`dense` is torch's AdamW over every row, as in the released code; else a row moves when it may alone."""
    drawn = ranks()
    assert set(drawn) == set(range(1, RANK + 1)), drawn

    def make():
        model, generator = base(), torch.Generator().manual_seed(38)
        for parameter in model.bert.parameters():
            parameter.requires_grad_(False)
        for name, module in list(model.named_modules()):
            if any(name.endswith(f".{end}") for end in ENDINGS):
                parent, _, child = name.rpartition(".")
                setattr(model.get_submodule(parent), child, Nested(module, generator, frozen))
        return model.double().train()

    def nested(model):
        return {plain(n): m for n, m in model.named_modules() if isinstance(m, Nested)}

    def before(model, _record):
        def act(step):
            for module in nested(model).values():
                module.b = drawn[step]

        return act

    def moves_of(model):
        """Rows that the step may move, read off the rank in use."""
        owner = {}
        for module in nested(model).values():
            owner[module.lora_A.weight], owner[module.lora_B.weight] = (module, 0), (module, 1)

        def moves(p):
            if p not in owner:
                return torch.ones_like(p, dtype=torch.bool)
            module, axis = owner[p]
            rows = torch.zeros(RANK, dtype=torch.bool)
            rows[module.b - 1 if frozen else 0 : module.b] = True
            return (rows[:, None] if axis == 0 else rows).expand_as(p)

        return moves

    def write(model, record):
        record.setting |= {"ranks": drawn, "seed": SEED, "update": "frozen" if frozen else "nested"}
        record.setting["scales"] = [ALPHA / b for b in range(1, RANK + 1)]
        if not dense:
            rows = next(s["count"] for p, s in optimizers[-1].state.items() if p is nested(model)[first].lora_A.weight)
            record.setting["counts"] = rows[:, 0].int().tolist()
        names = list(nested(model))
        prefixes = []
        for b in range(1, RANK + 1):
            for module in nested(model).values():
                module.b = b
            prefixes.append(torch.cat([nested(model)[name].weight.flatten() for name in names]))
            with torch.no_grad():
                record.add(f"merged_logits{b}", model(**inputs(batches[0])).logits)
        record.setting["maps"] = [[name, list(nested(model)[name].weight.shape)] for name in names]
        record.add("merged", torch.stack(prefixes))
        if frozen and not dense:  # the released code: Adam goes on over every row
            released = make()
            optimizer = torch.optim.AdamW(groups(released), eps=EPS)
            side = Record(released)
            run(released, batches, optimizer, record.setting["clip"], side, before=before(released, None))
            record.add("released_w1", side.tensors["w1"])
            record.add("released_w20", side.tensors["w20"])
        record.write("dylora" + "_frozen" * frozen + "_dense" * dense)

    optimizers, first = [], "encoder.layer.0.attention.self.query"

    def optimizer_of(model):
        optimizers.append(RowAdam(groups(model), moves_of(model)))
        return optimizers[-1]

    twice(make, batches, adamw if dense else optimizer_of, write, before=before)


# The base's own tensors


def own_tensors(name, batches, trains):
    def make():
        model = base()
        for key, parameter in model.named_parameters():
            parameter.requires_grad_(is_head(key) or trains(key))
        return model

    def write(_model, record):
        record.setting["rank"] = 0
        record.write(name)

    twice(make, batches, adamw, write)


def lisa(batches, interval=3):
    """One of two layers trains for some steps; the other has no gradient, as where `requires_grad` is off, and AdamW passes it over."""

    def layer(period):
        return int(unit(stream(SEED, "rank", f"layers.{period}")) * 2)

    def rests(key, step):
        return any(f".layer.{other}." in key for other in (0, 1) if other != layer(step // interval))

    def make():
        model = base()
        model.at = 0
        for key, parameter in model.named_parameters():
            parameter.register_hook(lambda gradient, key=key: gradient * 0 if rests(key, model.at) else gradient)
        return model

    def before(model, _record):
        def set_step(step):
            model.at = step

        return set_step

    def optimizer_of(model):
        optimizer = adamw(model)

        def pass_over(*_):
            for key, parameter in model.named_parameters():
                if rests(key, model.at):
                    parameter.grad = None

        optimizer.register_step_pre_hook(pass_over)
        return optimizer

    def write(_model, record):
        record.setting |= {"rank": 0, "interval": interval, "seed": SEED}
        record.write("lisa")

    assert {layer(period) for period in range(STEPS // interval + 1)} == {0, 1}
    twice(make, batches, optimizer_of, write, before=before)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    assert next(stream(0, "init", "a")) == 1_250_199_188_818_667_156  # pinned in stream.rs too
    OUT.mkdir(parents=True, exist_ok=True)
    batches = make_base()
    peft_run("lora", batches, lora_config, 30)
    peft_run("rslora", batches, lambda: lora_config(use_rslora=True), 31)
    orthogonal(batches)
    peft_run("lora_fa", batches, lora_config, 32, frozen=True)
    lora_fa_preconditioned(batches)
    lora_plus(batches)
    dora(batches)
    vera(batches)
    anchored("pissa", batches, 41, shipped=True)
    anchored("milora", batches, 42, shipped=False)
    anchored("olora", batches, 43, shipped=True)
    anchored("pissa", batches, 41, shipped=True, toward_start=True)
    anchored("olora", batches, 43, shipped=True, toward_start=True)
    dora(batches, toward_start=True)
    vera(batches, toward_start=True)
    adalora(batches)
    for frozen in (False, True):
        dylora(batches, frozen, dense=False)
        dylora(batches, frozen, dense=True)
    own_tensors("bitfit", batches, lambda name: name.endswith("bias"))
    own_tensors("full", batches, lambda _name: True)
    lisa(batches)


if __name__ == "__main__":
    main()
