"""Opens a combined adapter with PEFT on its base: every factor finds its map, and the logits are those of a merged checkpoint.

    lora-lab combine RUN --method linear --head RUN --out combined
    lora-lab merge RUN --out merged
    python scripts/oracle/combined.py BASE combined merged

BASE is the folder of the run's base. One run of weight 1 is its own combination, so both folders compute the same.
"""

import os
import sys
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

TOLERANCE = 1e-5  # of the largest logit: f32 on both sides


def main(base, combined, merged):
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    wanted = AutoModelForSequenceClassification.from_pretrained(merged, dtype=torch.float32).eval()
    plain = AutoModelForSequenceClassification.from_pretrained(
        base, dtype=torch.float32, num_labels=wanted.config.num_labels
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        tuned = PeftModel.from_pretrained(plain, combined).eval()
    assert not [one for one in said if "missing adapter keys" in str(one.message)], said
    stored = load_file(Path(combined) / "adapter_model.safetensors")
    factors = [name for name in stored if ".lora_" in name]
    there = [name for name, _ in tuned.named_parameters() if ".lora_" in name]
    assert len(factors) == len(there), (len(factors), len(there))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, wanted.config.vocab_size, (8, 20), generator=generator)
    with torch.no_grad():
        a, b = tuned(input_ids=ids).logits, wanted(input_ids=ids).logits
        folded = tuned.merge_and_unload()(input_ids=ids).logits
    for what, found in (("beside the base", a), ("merged by PEFT", folded)):
        gap, largest = (found - b).abs().max().item(), b.abs().max().item()
        assert gap <= TOLERANCE * largest, (what, gap, largest)
        print(f"{what}: largest difference {gap:.2e} of {largest:.3g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
