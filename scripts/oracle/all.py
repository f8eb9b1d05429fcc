"""Makes every committed fixture again, each script in a fresh process on one thread."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = ["subspace", "models", "targets", "variants", "products", "maps", "calibrated_starts", "over_time", "ranks_over_time", "metrics", "bleu", "decode", "statistics", "combine", "peft_adapters", "peft_tuners"]

if __name__ == "__main__":
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    for script in SCRIPTS:
        path = Path(__file__).with_name(f"{script}.py")
        subprocess.run([sys.executable, path], check=True, env=os.environ | one_thread)
