"""The study of crates/analysis/benches/subspace.rs, written well in numpy.

Per map: form both updates, one thin SVD per matrix (both updates, their factors, W), one product and one cumulative sum
per pair of bases, no loop over (i, j). Prints seconds, wall and CPU, per run.

    OPENBLAS_NUM_THREADS=2 python bench/subspace_numpy.py [d ...]
"""

import sys
import time

import numpy as np


def maps(count, d, rng):
    decay = np.arange(1, d + 1) ** -0.5
    for _ in range(count):
        w = rng.standard_normal((d, d)) / np.sqrt(d) * decay
        yield w, *((rng.standard_normal((d, r)), rng.standard_normal((r, d)), 2.0) for r in (8, 64))


def svd(matrix, rank):
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank], s[:rank], vt[:rank].T


def phi(u, v):
    sums = np.cumsum(np.cumsum((u.T @ v) ** 2, axis=0), axis=1)
    return sums / np.minimum.outer(np.arange(1, sums.shape[0] + 1), np.arange(1, sums.shape[1] + 1))


def study(w, low, high, clock):
    with clock["phi"]:
        (a, b, s), (a2, b2, s2) = low, high
        delta, delta2 = s * a @ b, s2 * a2 @ b2
        (u, _, v), (u2, _, v2) = svd(delta, 8), svd(delta2, 64)
        overlaps = [phi(u, u2), phi(v, v2), phi(svd(a, 8)[0], svd(a2, 64)[0]), phi(svd(b, 8)[2], svd(b2, 64)[2])]
    with clock["amplification"]:  # the directions of the updates are at hand
        _, top, _ = svd(w, 64)
        rows = []
        for r, (left, right, change) in ((4, (u, v, delta)), (64, (u2, v2, delta2))):
            onto = np.linalg.norm(left[:, :r].T @ w @ right[:, :r])
            rows.append((onto, np.sqrt((top[:r] ** 2).sum()), np.linalg.norm(change) / onto))
    return overlaps, rows


class Clock:
    def __init__(self):
        self.wall = self.cpu = 0.0

    def __enter__(self):
        self.start = time.perf_counter(), time.process_time()

    def __exit__(self, *_):
        self.wall += time.perf_counter() - self.start[0]
        self.cpu += time.process_time() - self.start[1]


def main():
    for d in [int(word) for word in sys.argv[1:]] or [768, 4096]:
        count = 24 if d < 2000 else 2
        clock = {"phi": Clock(), "amplification": Clock()}
        for w, low, high in maps(count, d, np.random.default_rng(0)):
            study(w, low, high, clock)
        for name, spent in clock.items():
            print(f"{name}: {count} maps, d = {d}: {spent.wall:.2f} s wall, {spent.cpu:.2f} s cpu", flush=True)


if __name__ == "__main__":
    main()
