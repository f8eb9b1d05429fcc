"""Tiny random checkpoints and what transformers and PEFT compute with them, written to crates/models/tests/fixtures.

    <arch>/config.json, model*.safetensors   the checkpoint, as `save_pretrained` writes it
    <arch>/adapter/                          a LoRA of rank 4, as PEFT's `save_pretrained` writes it
    <arch>/expected.safetensors              inputs and values in f32, attention eager, no dropout
    <arch>/generate.json                     greedy and beam search (causal models)

Everything expected is computed from the files written, read again in f32.
"""

import copy
import json
import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, TaskType, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
)
from transformers.utils import logging

FIXTURES = Path(__file__).resolve().parents[2] / "crates/models/tests/fixtures"
LENGTHS = [11, 4, 8, 2]
LABELS = [2, 0, 1, 2]
RANK, ALPHA = 4, 8
NEW_TOKENS = 12
BEAM = {"num_beams": 4, "length_penalty": 0.9, "no_repeat_ngram_size": 4}
MARGIN = 2e-3  # least gap of a decision in a search: far above what the order of f32 sums can move
ENCODER = {
    "num_hidden_layers": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 24,
    "hidden_act": "gelu",
    "num_labels": 3,
}
LLAMA = {
    "num_hidden_layers": 2,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def randomised(model, seed):
    """Draws every parameter: matrices wide enough that attention is far from uniform, no norm or bias at its start."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        is_norm = parameter.dim() == 1 and name.endswith("weight")
        parameter.data = (1 + 0.25 * noise if is_norm else 0.3 * noise).to(parameter.dtype)
    return model.eval()


def batch(vocab, low, pad, seed):
    """Right-padded rows of unlike lengths: input_ids [4, 11], attention_mask [4, 11]."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(low, vocab, mask.shape, generator=generator)
    return {"input_ids": ids.where(mask, torch.tensor(pad)), "attention_mask": mask.long()}


def losses(logits, inputs):
    """Sum and count of each row's cross-entropies: over classes, or of every next real token."""
    if logits.dim() == 2:
        return F.cross_entropy(logits, torch.tensor(LABELS), reduction="none"), torch.ones(
            len(LABELS), dtype=torch.long
        )
    real = inputs["attention_mask"][:, 1:].bool()
    each = F.cross_entropy(logits[:, :-1].transpose(1, 2), inputs["input_ids"][:, 1:], reduction="none")
    return each.where(real, torch.zeros(())).sum(1), real.sum(1)


def loss_tensors(prefix, logits, inputs):
    sums, counts = losses(logits, inputs)
    loss = sums.sum() / counts.sum()
    return loss, {f"{prefix}loss": loss, f"{prefix}loss_sum": sums, f"{prefix}loss_count": counts}


def plain(model, inputs):
    """Hidden states [4, 11, d] after the last norm; logits [4, 3] or [4, 11, vocab]."""
    base = getattr(model, model.base_model_prefix)
    with torch.no_grad():
        hidden = base(**inputs, output_attentions=True)
        peaks = torch.stack(hidden.attentions)[:, 0].amax(-1)  # of the row without padding, [layers, heads, 11]
        assert peaks[..., -4:].mean() > 3 / max(LENGTHS), "attention is nearly uniform"
        logits = model(**inputs).logits
        values = {"hidden": hidden.last_hidden_state, "logits": logits}
        if getattr(hidden, "pooler_output", None) is not None:
            values["pooled"] = hidden.pooler_output
        return values | loss_tensors("", logits, inputs)[1]


def lora(model, inputs, task, targets, folder, seed):
    """Attaches and saves an adapter; its logits, loss and gradients under the names that PEFT saves; the merged logits."""
    config = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=0.0,
        target_modules=targets,
        fan_in_fan_out=targets == ["c_attn"],
        task_type=task,  # SEQ_CLS trains and saves the classifier too
    )
    base = copy.deepcopy(model)
    tuned = get_peft_model(model, config).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(tuned.named_parameters()):
        if "lora_" in name:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    save_adapter(tuned, folder)

    logits = tuned(**inputs).logits
    loss, values = loss_tensors("lora.", logits, inputs)
    loss.backward()
    values["lora.logits"] = logits
    for name, parameter in tuned.named_parameters():
        if parameter.grad is not None:
            values["grad." + name.replace(".modules_to_save", "").replace(".default", "")] = parameter.grad
    saved = {"grad." + name for name in get_peft_model_state_dict(tuned, save_embedding_layers=False)}
    assert saved == {name for name in values if name.startswith("grad.")}

    with torch.no_grad():
        again = PeftModel.from_pretrained(base, folder).eval()(**inputs).logits
        assert torch.equal(again, logits)
        values["merged.logits"] = tuned.merge_and_unload()(**inputs).logits
    return values


def save_adapter(tuned, folder):
    tuned.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text()) | {"base_model_name_or_path": None}
    for key, value in config.items():
        if isinstance(value, list):
            config[key] = sorted(value)  # written from a set, whose order changes from run to run
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def split_attention(model, inputs, seed):
    """loralib's MergedLinear with enable_lora [True, False, True]: A, B for q and for v on slices of c_attn's output."""
    generator = torch.Generator().manual_seed(seed)
    d = model.config.n_embd
    factors = {}
    for layer, block in enumerate(model.transformer.h):
        for slice_, start in (("q", 0), ("v", 2 * d)):
            a = 0.2 * torch.randn(RANK, d, generator=generator)
            b = 0.2 * torch.randn(d, RANK, generator=generator)
            factors[f"{layer}.{slice_}.A"], factors[f"{layer}.{slice_}.B"] = a.requires_grad_(), b.requires_grad_()

            def add(_module, args, output, a=a, b=b, start=start):
                delta = ALPHA / RANK * args[0] @ a.T @ b.T
                return output + F.pad(delta, (start, 2 * d - start))

            block.attn.c_attn.register_forward_hook(add)
    logits = model(**inputs).logits
    loss, values = loss_tensors("qv.", logits, inputs)
    gradients = torch.autograd.grad(loss, list(factors.values()))
    values["qv.logits"] = logits
    values |= {f"qv.{name}": value for name, value in factors.items()}
    return values | {f"qv.grad.{name}": value for name, value in zip(factors, gradients)}


def prompts(vocab, seed):
    """Prompts of 1 to 9 tokens; the last two repeat themselves, so that a ban of repeated n-grams reaches into them."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(3, vocab, (n,), generator=generator).tolist() for n in (5, 1, 3, 7)]
    return rows + [rows[0][:3] * 3, rows[2][:2] * 4]


def search(model, rows, eos, **options):
    """The ids (prompt included) of each row's best sequence, and the least gap between it and another."""
    ids, scores, gaps = [], [], []
    for row in rows:
        beams = options.get("num_beams", 1)
        out = model.generate(
            torch.tensor([row]),
            attention_mask=torch.ones(1, len(row), dtype=torch.long),
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            eos_token_id=eos,
            pad_token_id=eos,
            num_return_sequences=beams,
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )
        best = out.sequences[0].tolist()
        while best[-2:] == [eos, eos]:
            best.pop()  # padding up to the longest of the returned beams
        ids.append(best)
        if beams > 1:
            scores.append(out.sequences_scores[0].item())
            gaps.append((out.sequences_scores[0] - out.sequences_scores[1]).item())
        else:
            gaps += [(top[0] - top[1]).item() for top in (step[0].topk(2).values for step in out.scores)]
    return ids, scores, min(gaps)


def generation(model, vocab):
    """The first end token and prompts with rows that end early and rows that do not, and no near tie."""

    def mixed(ids):
        ended = [row[-1] == eos and len(row) < len(prompt) + NEW_TOKENS for row, prompt in zip(ids, rows)]
        return 2 <= sum(ended) < len(rows)

    for seed in range(20):
        rows = prompts(vocab, seed)
        for eos in range(3, vocab):
            if any(eos in row for row in rows):
                continue
            greedy, _, gap = search(model, rows, eos)
            if gap < MARGIN or not mixed(greedy):
                continue
            beam, scores, gap = search(model, rows, eos, **BEAM)
            if gap < MARGIN or not mixed(beam):
                continue
            free, _, _ = search(model, rows, eos, **(BEAM | {"no_repeat_ngram_size": 0}))
            even, _, _ = search(model, rows, eos, **(BEAM | {"length_penalty": 0.0}))
            if beam in (free, even, greedy):
                continue  # each option must tell
            return {
                "eos_token_id": eos,
                "pad_token_id": eos,
                "max_new_tokens": NEW_TOKENS,
                "prompts": rows,
                "greedy": {"outputs": greedy},
                "beam": BEAM | {"outputs": beam, "scores": scores},
            }
    raise AssertionError("no end token fits")


def write(folder, values, inputs):
    """Inputs and values; scalars as [1]."""
    tensors = {"input_ids": inputs["input_ids"], "lengths": torch.tensor(LENGTHS)}
    if "token_type_ids" in inputs:
        tensors["type_ids"] = inputs["token_type_ids"]
    if values.get("logits", torch.zeros(())).dim() == 2:
        tensors["labels"] = torch.tensor(LABELS)
    tensors |= {name: value.detach() for name, value in values.items()}
    tensors = {name: value.reshape(1) if value.dim() == 0 else value for name, value in tensors.items()}
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "expected.safetensors")


def start(name):
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def save(model, folder, **options):
    model.save_pretrained(folder, **options)
    (folder / "generation_config.json").unlink(missing_ok=True)


def load(kind, folder):
    return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def encoder(name, kind, config, inputs, seed):
    folder = start(name)
    save(randomised(kind(config), seed), folder)
    values = plain(load(kind, folder), inputs)
    values |= lora(load(kind, folder), inputs, TaskType.SEQ_CLS, ["query", "value"], folder / "adapter", seed + 100)
    write(folder, values, inputs)


def causal(name, kind, config, inputs, targets, seed, dtype=torch.float32, **options):
    folder = start(name)
    save(randomised(kind(config).to(dtype), seed), folder, **options)
    values = plain(load(kind, folder), inputs)
    values |= lora(load(kind, folder), inputs, TaskType.CAUSAL_LM, targets, folder / "adapter", seed + 100)
    if kind is GPT2LMHeadModel:
        values |= split_attention(load(kind, folder), inputs, seed + 200)
    write(folder, values, inputs)
    found = generation(load(kind, folder), config.vocab_size)
    (folder / "generate.json").write_text(json.dumps(found, indent=1) + "\n")


def bert_inputs(vocab, seed):
    """Both types in every row of more than two tokens."""
    inputs = batch(vocab, 5, 0, seed)
    second = torch.arange(max(LENGTHS))[None] >= torch.tensor([6, 2, 3, 2])[:, None]
    return inputs | {"token_type_ids": second.long() * inputs["attention_mask"]}


def bert():
    config = BertConfig(vocab_size=64, hidden_size=24, num_attention_heads=3, **ENCODER)
    encoder("bert", BertForSequenceClassification, config, bert_inputs(64, 1), 1)


def bert_bare():
    """An encoder alone, without prefix, and with the position ids that older checkpoints carry."""
    config = BertConfig(vocab_size=60, hidden_size=16, num_attention_heads=2, **ENCODER)
    folder, inputs = start("bert_bare"), bert_inputs(60, 2)
    save(randomised(BertModel(config), 2), folder)
    path = folder / "model.safetensors"
    positions = torch.arange(config.max_position_embeddings)[None]
    save_file(load_file(path) | {"embeddings.position_ids": positions}, path, metadata={"format": "pt"})
    with torch.no_grad():
        out = load(BertModel, folder)(**inputs)
    write(folder, {"hidden": out.last_hidden_state, "pooled": out.pooler_output}, inputs)


def roberta():
    config = RobertaConfig(
        vocab_size=70, hidden_size=24, num_attention_heads=4, type_vocab_size=1, pad_token_id=1, **ENCODER
    )
    encoder("roberta", RobertaForSequenceClassification, config, batch(70, 3, 1, 3), 3)


def gpt2():
    config = GPT2Config(
        vocab_size=72, n_embd=24, n_layer=2, n_head=3, n_positions=40, n_inner=44, bos_token_id=0, eos_token_id=0
    )
    causal("gpt2", GPT2LMHeadModel, config, batch(72, 1, 0, 4), ["c_attn"], 4)


def llama():
    config = LlamaConfig(vocab_size=80, hidden_size=32, tie_word_embeddings=False, **LLAMA)
    causal("llama", LlamaForCausalLM, config, batch(80, 3, 0, 5), ["q_proj", "v_proj"], 5)


def llama_tied():
    """Heads wider than hidden/heads, bf16, in two shards with an index."""
    config = LlamaConfig(
        vocab_size=66, hidden_size=24, head_dim=10, tie_word_embeddings=True, attention_bias=False, **LLAMA
    )
    inputs = batch(66, 3, 0, 6)
    causal(
        "llama_tied",
        LlamaForCausalLM,
        config,
        inputs,
        ["q_proj", "v_proj"],
        6,
        dtype=torch.bfloat16,
        max_shard_size="19KB",
    )
    shards = sorted(path.name for path in (FIXTURES / "llama_tied").glob("model-*"))
    assert shards == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], shards


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    for make in (bert, bert_bare, roberta, gpt2, llama, llama_tied):
        make()


if __name__ == "__main__":
    main()
