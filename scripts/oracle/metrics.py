"""What scikit-learn and scipy give for the metrics of GLUE, written to crates/data/tests/fixtures/metrics.json.

A list of cases: name, metric, predictions, labels, value. NaN is null, in inputs too. `raises` names the exception where a
library refuses the input; the value is then null.
"""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import scipy.stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

FIXTURE = Path(__file__).resolve().parents[2] / "crates/data/tests/fixtures/metrics.json"

ACCURACY = {"accuracy": lambda predictions, labels: accuracy_score(labels, predictions)}
MATTHEWS = {"matthews": lambda predictions, labels: matthews_corrcoef(labels, predictions)}
F1 = {"f1": lambda predictions, labels: f1_score(labels, predictions, zero_division=0)}
CORRELATIONS = {
    "pearson": lambda predictions, labels: scipy.stats.pearsonr(predictions, labels).statistic,
    "spearman": lambda predictions, labels: scipy.stats.spearmanr(predictions, labels).statistic,
}
BINARY, CLASSES = ACCURACY | F1 | MATTHEWS, ACCURACY | MATTHEWS


def noisy(rng, labels, share, classes):
    """The labels with a share of them drawn anew."""
    return np.where(rng.random(len(labels)) < share, rng.integers(0, classes, len(labels)), labels)


def classes(rng):
    """Name, metrics, predictions, labels."""
    for n, share in ((12, 0.6), (50, 0.5), (200, 0.1), (200, 0.9)):
        labels = rng.integers(0, 2, n)
        yield f"binary, {n} rows, {share} drawn anew", BINARY, noisy(rng, labels, share, 2), labels
    rare = (rng.random(120) < 0.05).astype(int)
    yield "binary, rare positives", BINARY, noisy(rng, rare, 0.1, 2), rare
    yield "binary, perfect", BINARY, [0, 1, 1, 0], [0, 1, 1, 0]
    yield "binary, all wrong", BINARY, [1, 0, 0, 1], [0, 1, 1, 0]
    yield "binary, all predicted 0", BINARY, [0, 0, 0, 0], [0, 1, 1, 0]
    yield "binary, all predicted 1", BINARY, [1, 1, 1, 1], [0, 1, 1, 0]
    yield "binary, all labels 0", BINARY, [0, 1, 1, 0], [0, 0, 0, 0]
    yield "binary, all labels 1", BINARY, [0, 1, 1, 0], [1, 1, 1, 1]
    yield "binary, all 0", BINARY, [0, 0], [0, 0]
    yield "binary, all 1", BINARY, [1, 1], [1, 1]
    yield "binary, constant and opposite", BINARY, [1, 1], [0, 0]
    yield "binary, one row right", BINARY, [1], [1]
    yield "binary, one row wrong", BINARY, [0], [1]
    for n, share in ((15, 0.3), (150, 0.5)):
        labels = rng.integers(0, 3, n)
        yield f"3 classes, {n} rows, {share} drawn anew", CLASSES, noisy(rng, labels, share, 3), labels
    yield "3 classes, one never predicted", CLASSES, [0, 1, 0, 1, 0, 1], [0, 1, 2, 0, 1, 2]
    yield "3 classes, one without labels", CLASSES, [0, 1, 2, 1, 0, 2], [0, 1, 1, 0, 1, 0]
    yield "3 classes, all predicted 2", CLASSES, [2, 2, 2], [0, 1, 2]
    yield "3 classes, all labels 1", CLASSES, [0, 1, 2], [1, 1, 1]
    yield "3 classes, a cycle", CLASSES, [1, 2, 0], [0, 1, 2]


def scores(rng):
    """Name, predictions, labels."""
    labels = rng.uniform(0, 5, 60)
    yield "close", labels + 0.3 * rng.standard_normal(60), labels
    yield "unrelated", rng.standard_normal(60), labels
    yield "opposite", 5 - labels + 0.1 * rng.standard_normal(60), labels
    yield "ties in labels", labels[:40], np.round(labels[:40])
    yield "ties in both", rng.integers(0, 4, 80), rng.integers(0, 4, 80)
    yield "ties, by hand", [1, 5, 5, 9], [1, 2, 3, 4]
    yield "monotone, not linear", np.exp(labels[:20]), labels[:20]
    yield "linear", [1, 2, 3], [2, 4, 6]
    yield "linear, falling", [3, 2, 1], [2, 4, 6]
    yield "two rows", [0.5, 0.25], [1, 2]
    yield "one row", [0.5], [1]
    yield "no rows", [], []
    yield "constant predictions", [0.1, 0.1, 0.1], [1, 2, 3]
    yield "constant labels", [1, 2, 3], [4, 4, 4]
    yield "constant both", [2, 2, 2], [3, 3, 3]
    yield "huge scale", [1e200, 2e200, 4e200], [1, 2, 3]
    yield "tiny scale", [1e-200, 2e-200, 4e-200], [1, 2, 3]
    yield "huge and tiny scale", [1e200, 2e200, 3e200, 3e200], [1e-200, 3e-200, 2e-200, 4e-200]
    yield "small spread about a large mean", 1e6 + labels[:30], labels[:30] + 0.2 * rng.standard_normal(30)
    yield "nan in predictions", [1, math.nan, 3, 4], [1, 2, 3, 4]
    yield "nan in labels", [1, 2, 3, 4], [1, 2, math.nan, 4]


def number(value):
    value = float(value)
    return None if math.isnan(value) else value


def case(name, metric, function, predictions, labels):
    document = {
        "name": name,
        "metric": metric,
        "predictions": [number(value) for value in predictions],
        "labels": [number(value) for value in labels],
    }
    try:
        return document | {"value": number(function(predictions, labels))}
    except ValueError as error:
        return document | {"value": None, "raises": type(error).__name__}


def main():
    warnings.simplefilter("ignore")  # of constant inputs, whose values are what is asked
    cases = [
        case(name, metric, function, predictions, labels)
        for name, metrics, predictions, labels in classes(np.random.default_rng(0))
        for metric, function in metrics.items()
    ]
    cases += [
        case(name, metric, function, predictions, labels)
        for name, predictions, labels in scores(np.random.default_rng(1))
        for metric, function in CORRELATIONS.items()
    ]
    FIXTURE.parent.mkdir(parents=True, exist_ok=True)
    FIXTURE.write_text("[\n" + ",\n".join(json.dumps(each) for each in cases) + "\n]\n")


if __name__ == "__main__":
    main()
