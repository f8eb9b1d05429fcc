"""Milliseconds per training step of PEFT at a shape: the other half of the figures that `step_time` prints.

The same model (RoBERTa's layers and head, random weights), the same batches' shape and padding mask, the same trained tensors (adapters in f32,
head in f32), AdamW with torch's fused kernel, clipping at norm 1 as here. Prints one line of JSON per case.

    python bench/peft_step.py --shape roberta-base --batch 32 --seq 128 --device cuda --base bf16 --mode eager,compile,graphs
"""

import argparse
import json
import statistics
import time

import torch
from peft import LoraConfig, VeraConfig, AdaLoraConfig, get_peft_model
from transformers import RobertaConfig, RobertaForSequenceClassification

SHAPES = {"mini": (4, 128, 4, 512, 2048), "minilm": (6, 384, 12, 1536, 30522), "roberta-base": (12, 768, 12, 3072, 50265)}


def model_of(args):
    layers, d, heads, wide, vocabulary = SHAPES[args.shape]
    config = RobertaConfig(
        num_hidden_layers=layers, hidden_size=d, num_attention_heads=heads, intermediate_size=wide, vocab_size=vocabulary,
        max_position_embeddings=514, type_vocab_size=1, num_labels=2, hidden_dropout_prob=args.dropout,
        attention_probs_dropout_prob=args.dropout, attn_implementation="sdpa",
    )
    model = RobertaForSequenceClassification(config)
    if args.base == "bf16":
        model = model.to(torch.bfloat16)
    return model.to(args.device)


def adapted(model, args):
    targets = ["query", "value"] if args.targets == "query,value" else ["query", "key", "value", "dense"]
    common = dict(target_modules=targets, task_type="SEQ_CLS")
    if args.variant == "vera":
        config = VeraConfig(r=args.rank, vera_dropout=0.0, **common)
    elif args.variant == "adalora":
        config = AdaLoraConfig(init_r=args.rank, target_r=args.rank // 2, lora_alpha=16, lora_dropout=0.0, tinit=1, tfinal=10, deltaT=1, total_step=1_000_000, **common)
    else:
        config = LoraConfig(r=args.rank, lora_alpha=16, lora_dropout=0.0, use_dora=args.variant == "dora", use_rslora=args.variant == "rslora", **common)
    model = get_peft_model(model, config)  # adapters in f32 over a bf16 base: autocast_adapter_dtype is PEFT's default
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name:
            parameter.data = parameter.data.float()
        if args.variant == "lora_fa" and "lora_A" in name:
            parameter.requires_grad_(False)
    return model


class FloatHead(torch.nn.Module):
    """The head in f32 over bf16 states, as here."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, features, **kwargs):
        return self.inner(features.float(), **kwargs)


def measure(args, mode):
    torch.manual_seed(0)
    device = torch.device(args.device)
    cuda = device.type == "cuda"
    torch.backends.cuda.matmul.allow_tf32 = False
    model = adapted(model_of(args), args)
    if args.base == "bf16":
        model.base_model.model.classifier = FloatHead(model.base_model.model.classifier)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-4, weight_decay=0.01, fused=cuda or None)
    function = model
    if mode == "compile":
        function = torch.compile(model)
    elif mode == "graphs":
        function = torch.compile(model, mode="reduce-overhead")
    vocabulary = SHAPES[args.shape][4]
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(4):
        ids = torch.randint(5, vocabulary - 1, (args.batch, args.seq), generator=generator)
        lengths = torch.randint(args.seq // 2, args.seq + 1, (args.batch,), generator=generator)
        lengths[0] = args.seq
        mask = (torch.arange(args.seq)[None] < lengths[:, None]).long()
        ids = torch.where(mask.bool(), ids, torch.ones_like(ids))
        labels = torch.randint(0, 2, (args.batch,), generator=generator)
        batches.append((ids.to(device), mask.to(device), labels.to(device)))
    sync = torch.cuda.synchronize if cuda else (lambda: None)
    times = []
    for step in range(args.warm + args.steps):
        if step == args.warm and cuda:
            torch.cuda.reset_peak_memory_stats()
        ids, mask, labels = batches[step % 4]
        sync()
        start = time.perf_counter()
        if mode == "graphs":
            torch.compiler.cudagraph_mark_step_begin()
        loss = function(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        if args.clip > 0:
            torch.nn.utils.clip_grad_norm_(trained, args.clip)
        optimizer.step()
        optimizer.zero_grad()
        sync()
        times.append((time.perf_counter() - start) * 1e3)
    times = times[args.warm:]
    peak = torch.cuda.max_memory_allocated() if cuda else None
    print(json.dumps({
        "system": "peft", "mode": mode, "shape": args.shape, "base": args.base, "batch": args.batch, "seq": args.seq, "variant": args.variant,
        "targets": args.targets, "dropout": args.dropout, "median_ms": statistics.median(times), "min_ms": min(times), "peak_bytes": peak,
        "loss": float(loss), "parameters": sum(p.numel() for p in trained),
    }), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--shape", choices=SHAPES, default="mini")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seq", type=int, default=64)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--variant", default="lora")
    parser.add_argument("--targets", default="query,value")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--base", default="f32")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--mode", default="eager", help="eager, compile, graphs; several with commas")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warm", type=int, default=6)
    args = parser.parse_args()
    for mode in args.mode.split(","):
        try:
            measure(args, mode)
        except Exception as error:  # a mode that a version of torch cannot run is said, and the others go on
            print(json.dumps({"system": "peft", "mode": mode, "shape": args.shape, "variant": args.variant, "error": repr(error)[:300]}), flush=True)
        torch._dynamo.reset()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
