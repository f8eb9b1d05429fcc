"""Independent values of the subspace measures: numpy and scipy, straight from the definitions.

Everything is dense, one full SVD per matrix, one explicit norm per (i, j). Written to
crates/analysis/tests/fixtures/subspace/<case>.json.

    python -m venv .venv && .venv/bin/pip install -r scripts/oracle/requirements.txt
    .venv/bin/python scripts/oracle/subspace.py

Layout: y = x W, W [d_in, d_out], delta = s a b. Matrices are lists of rows.
"""

import json
from pathlib import Path

import numpy as np
import scipy.linalg
import scipy.stats

FIXTURES = Path(__file__).resolve().parents[2] / "crates/analysis/tests/fixtures/subspace"
EPSILON = 0.6  # threshold of the intruder dimensions


def svd(matrix):
    """Singular triplets up to the numerical rank: u [rows, k], s [k], v [cols, k]."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    k = np.linalg.matrix_rank(matrix)
    return u[:, :k], s[:k], vt[:k].T


def phi(u, v):
    """LoRA equation (4), one norm per pair of cuts."""
    return [
        [np.linalg.norm(u[:, :i].T @ v[:, :j]) ** 2 / min(i, j) for j in range(1, v.shape[1] + 1)]
        for i in range(1, u.shape[1] + 1)
    ]


def projector(columns):
    basis = scipy.linalg.orth(columns)
    return basis @ basis.T


def column_norms(matrix):
    return np.linalg.norm(matrix, axis=0)


def change(base, tuned):
    """DoRA equations (3) and (4), per column."""
    cosine = (base * tuned).sum(axis=0) / (column_norms(base) * column_norms(tuned))
    return np.abs(column_norms(tuned) - column_norms(base)), 1 - cosine


def expected(w, updates):
    deltas = [s * a @ b for a, b, s in updates]
    parts = [svd(delta) for delta in deltas]
    (u0, s0, v0), (u1, _, v1) = parts[0], parts[-1]
    uw, sw, vw = svd(w)
    a0, b0, a1, b1 = updates[0][0], updates[0][1], updates[-1][0], updates[-1][1]
    p = min(u0.shape[1], u1.shape[1])
    cosines = np.linalg.svd(u0.T @ u1, compute_uv=False)
    share = s0 / s0.sum()
    changes = [change(w, w + delta) for delta in deltas]
    magnitude = [m.mean() for m, _ in changes]
    direction = [d.mean() for _, d in changes]
    ut, st, vt = svd(w + deltas[0])
    final = deltas[-1]
    return {
        "values": s0,
        "phi_a": phi(svd(a0)[0], svd(a1)[0]),
        "phi_b": phi(svd(b0)[2], svd(b1)[2]),
        "phi_input": phi(u0, u1),
        "phi_output": phi(v0, v1),
        "angles": np.sort(scipy.linalg.subspace_angles(u0, u1)),
        "distance": np.sqrt(max(p - (cosines**2).sum(), 0.0)),
        "onto_update": [np.linalg.norm(u0[:, :r].T @ w @ v0[:, :r]) for r in range(1, len(s0) + 1)],
        "onto_base": [np.linalg.norm(uw[:, :r].T @ w @ vw[:, :r]) for r in range(1, len(s0) + 1)],
        "amplification": [
            np.linalg.norm(deltas[0]) / np.linalg.norm(u0[:, :r].T @ w @ v0[:, :r]) for r in range(1, len(s0) + 1)
        ],
        "base_values": sw,
        "heat_input": phi(uw, u0),
        "heat_output": phi(vw, v0),
        "norm": np.linalg.norm(deltas[0]),
        "stable_rank": np.linalg.norm(deltas[0]) ** 2 / np.linalg.norm(deltas[0], 2) ** 2,
        "effective_rank": np.exp(scipy.stats.entropy(share)),
        "energy": s0**2 / (s0**2).sum(),
        "likeness_input": np.abs(uw.T @ ut).max(axis=0),
        "likeness_output": np.abs(vw.T @ vt).max(axis=0),
        "intruders_output": int((np.abs(vw.T @ vt).max(axis=0) < EPSILON).sum()),
        "magnitude_columns": changes[0][0],
        "direction_columns": changes[0][1],
        "magnitude": magnitude,
        "direction": direction,
        "correlation": scipy.stats.pearsonr(magnitude, direction).statistic,
        "reach_input": np.linalg.norm(projector(a1) @ deltas[0]) ** 2 / np.linalg.norm(deltas[0]) ** 2,
        "reach_output": np.linalg.norm(deltas[0] @ projector(b1.T)) ** 2 / np.linalg.norm(deltas[0]) ** 2,
        "steps": [np.linalg.norm(now - before) for before, now in zip([0 * deltas[0], *deltas], deltas)],
        "to_final": [np.linalg.norm(delta - final) / np.linalg.norm(final) for delta in deltas],
    }


def gaussian(rng, *shape):
    return np.round(rng.standard_normal(shape), 4)  # short files; the rounded numbers are the inputs


def trajectory(rng, d_in, d_out, ranks, w):
    """Updates of several checkpoints, each with its own rank and scale."""
    scales = [0.5, 2.0, 1.25, 0.8]
    return w, [(gaussian(rng, d_in, r), gaussian(rng, r, d_out), scales[n]) for n, r in enumerate(ranks)]


def random_case(rng):
    return trajectory(rng, 24, 20, [4, 3, 6], gaussian(rng, 24, 20))


def wide(rng):
    return trajectory(rng, 10, 50, [3, 4, 5], gaussian(rng, 10, 50))


def tall(rng):
    return trajectory(rng, 50, 10, [5, 4, 3], gaussian(rng, 50, 10))


def tiny(rng):
    return trajectory(rng, 2, 3, [1, 2, 1], gaussian(rng, 2, 3))


def over_complete(rng):
    """A rank above both dimensions: r = 9 on a [5, 6] map."""
    return trajectory(rng, 5, 6, [9, 2, 3], gaussian(rng, 5, 6))


def deficient(rng):
    """Six columns of rank 3 in the update, four of rank 2 in the last; a base of rank 5."""
    w, updates = trajectory(rng, 24, 20, [6, 3, 4], gaussian(rng, 24, 5) @ gaussian(rng, 5, 20))
    (a, b, s), middle, (a1, b1, s1) = updates
    a[:, 3:] = np.stack([a[:, 0] + a[:, 1], a[:, 2] - a[:, 0], 2 * a[:, 1]], axis=1)
    b1[2:] = np.stack([b1[0] - b1[1], 3 * b1[0]])
    return w, [(a, b, s), middle, (a1, b1, s1)]


def planted(rng):
    """Given singular values and shared leading directions; the base leans on the update's second direction."""
    d_in, d_out = 24, 18
    u, _ = np.linalg.qr(rng.standard_normal((d_in, d_in)))
    v, _ = np.linalg.qr(rng.standard_normal((d_out, d_out)))
    base = u[:, :d_out] @ np.diag(2.0 ** -np.arange(d_out) * 20) @ v.T
    first = (u[:, [3, 1, 10, 17]] * [5.0, 2.0, 1.0, 1e-3], v[:, [3, 1, 10, 17]].T, 1.0)
    middle = (u[:, [3, 2]] * [2.0, 1.0], v[:, [3, 5]].T, 3.0)
    last = (u[:, [3, 12, 1]] * [6.0, 1.5, 0.5], v[:, [3, 12, 0]].T, 0.5)
    return base, [first, middle, last]


def plain(value):
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def main():
    FIXTURES.mkdir(parents=True, exist_ok=True)
    cases = [random_case, wide, tall, tiny, over_complete, deficient, planted]
    for seed, case in enumerate(cases):
        w, updates = case(np.random.default_rng(seed))
        document = {
            "made_with": f"numpy {np.__version__}, scipy {scipy.__version__}",
            "w": plain(w),
            "updates": [{"a": plain(a), "b": plain(b), "scale": s} for a, b, s in updates],
            "expected": {name: plain(value) for name, value in expected(w, updates).items()},
        }
        path = FIXTURES / f"{case.__name__.removesuffix('_case')}.json"
        path.write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
