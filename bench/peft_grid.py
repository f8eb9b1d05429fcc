"""A grid of PEFT runs in parallel processes on one GPU: the other half of experiments/minilm_variants.yaml.

Every run has its own process's turn: bf16 base, adapters and head in f32, sdpa attention, torch's fused AdamW, batches of rows of like
length, no read of a loss in between. Imports are done before the clock starts. Prints one line of JSON per run and one for the grid.

    python bench/peft_grid.py --model models/all-MiniLM-L6-v2 --data data/glue --workers 14 --epochs 10 --seeds 0
"""

import argparse
import json
import math
import multiprocessing
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

# As in the experiment; else 5e-4.
RATES = {"vera": 5e-3, "adalora": 5e-3, "lora_plus": 1e-4}
VARIANTS = ["lora", "rslora", "lora_plus", "lora_fa", "dora", "adalora", "vera"]


def configured(variant, steps, peft):
    common = dict(target_modules=["query", "value"], task_type="SEQ_CLS")
    if variant == "vera":
        return peft.VeraConfig(r=256, vera_dropout=0.0, **common)
    if variant == "adalora":
        return peft.AdaLoraConfig(
            init_r=12, target_r=8, lora_alpha=16, lora_dropout=0.0, tinit=int(0.1 * steps), tfinal=int(0.3 * steps), deltaT=10,
            beta1=0.85, beta2=0.85, orth_reg_weight=0.1, total_step=steps, **common
        )
    return peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, use_dora=variant == "dora", use_rslora=variant == "rslora", **common)


def run(job):
    import peft
    import peft_study as study
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    variant, task, seed, options = job
    clock = time.perf_counter()
    transformers.logging.set_verbosity_error()
    transformers.set_seed(seed)
    options = argparse.Namespace(**options, task=task, max_length=128)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    train, dev = study.Rows(options, tokenizer, "train"), study.Rows(options, tokenizer, "dev")
    config = AutoConfig.from_pretrained(options.model, num_labels=2)
    model = AutoModelForSequenceClassification.from_pretrained(options.model, config=config, dtype=torch.bfloat16, attn_implementation="sdpa")
    steps = options.epochs * math.ceil(len(train) / 32)
    model = peft.get_peft_model(model, configured(variant, steps, peft)).to(options.device)
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name:
            parameter.data = parameter.data.float()
        if variant == "lora_fa" and "lora_A" in name:
            parameter.requires_grad_(False)
    head = model.base_model.model.classifier
    wrapped = head.forward
    head.forward = lambda x, *rest, **more: wrapped(x.float(), *rest, **more)
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    rate = RATES.get(variant, 5e-4)
    groups = []
    for name, p in trained:
        own = rate * 16 if variant == "lora_plus" and "lora_B" in name else rate
        groups.append({"params": [p], "lr": own, "weight_decay": 0.1 if p.dim() > 1 else 0.0})
    optimizer = torch.optim.AdamW(groups, lr=rate, fused=True)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, math.ceil(0.06 * steps), steps)
    lengths = [len(ids) for ids in train.tokens["input_ids"]]
    generator = torch.Generator().manual_seed(seed)
    model.train()
    step = 0
    for _ in range(options.epochs):
        noise = torch.rand(len(train), generator=generator).tolist()
        order = sorted(range(len(train)), key=lambda i: (lengths[i], noise[i]))
        batches = [order[at : at + 32] for at in range(0, len(order), 32)]
        for index in torch.randperm(len(batches), generator=generator).tolist():
            inputs, labels = train.batch(batches[index])
            output = model(**inputs, labels=labels)
            output.loss.backward()
            torch.nn.utils.clip_grad_norm_([p for _, p in trained], 1.0)
            optimizer.step()
            schedule.step()
            if variant == "adalora":
                model.base_model.update_and_allocate(step)
            optimizer.zero_grad()
            step += 1
    torch.cuda.synchronize()
    seconds = time.perf_counter() - clock
    metric = study.evaluate(options, model, dev)
    return {"variant": variant, "task": task, "seed": seed, "steps": steps, "train_seconds": seconds, "metric": metric, "seconds": time.perf_counter() - clock}


def warm(_):
    import peft  # noqa: F401
    import peft_study  # noqa: F401
    import torch

    torch.zeros(1, device="cuda").sum().item()
    time.sleep(1.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", default=VARIANTS)
    parser.add_argument("--tasks", nargs="+", default=["cola", "rte"])
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    options = {"model": args.model, "data": args.data, "epochs": args.epochs, "device": args.device}
    # The longer runs first, so that no process is left with one at the end.
    jobs = [(v, t, s, options) for t in args.tasks for s in args.seeds for v in args.variants]
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        pool.map(warm, range(4 * args.workers), chunksize=1)
        clock = time.perf_counter()
        for result in pool.imap_unordered(run, jobs, chunksize=1):
            print(json.dumps(result), flush=True)
        print(json.dumps({"runs": len(jobs), "workers": args.workers, "epochs": args.epochs, "wall_seconds": time.perf_counter() - clock}), flush=True)


if __name__ == "__main__":
    main()
