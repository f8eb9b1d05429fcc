"""What scipy and statsmodels give for the statistics of comparisons, written to crates/analysis/tests/fixtures/statistics.json.

Closed forms come from the libraries. What these do not have (the stratified estimate, the bootstrap over seeds and examples, the test of
independence over tasks) is written here from the formulas with numpy, with many more draws than the program takes.
"""

import itertools
import json
from pathlib import Path

import numpy as np
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

FIXTURE = Path(__file__).resolve().parents[2] / "crates/analysis/tests/fixtures/statistics.json"


def paired(rng):
    """Student's paired tests: against 0, about a margin, for equivalence, and the interval."""
    for n, shift, spread in ((3, 0.02, 0.01), (5, 0.0, 0.004), (10, -0.003, 0.01), (10, 0.1, 0.02)):
        second = rng.normal(0.8, 0.02, n)
        first = second + rng.normal(shift, spread, n)
        test = stats.ttest_rel(first, second)
        interval = test.confidence_interval()
        margins = (0.005, 0.01, 0.05)
        yield {
            "first": list(first),
            "second": list(second),
            "p": test.pvalue,
            "interval": [interval.low, interval.high],
            "values": [-0.01, 0.0, 0.03],
            "p_of_values": [stats.ttest_1samp(first - second, value).pvalue for value in (-0.01, 0.0, 0.03)],
            "margins": margins,
            "p_equivalent": [ttost_paired(first, second, -margin, margin)[0] for margin in margins],
        }


def stratified(rng):
    """Mean over tasks of paired differences, variances added, Satterthwaite's degrees of freedom."""
    for sizes, spreads in (((3, 3, 3), (0.03, 0.01, 0.002)), ((5, 5), (0.01, 0.01)), ((3, 10, 5, 4), (0.02, 0.001, 0.01, 0.05))):
        seconds = [rng.normal(0.8, 0.02, n) for n in sizes]
        firsts = [second + rng.normal(0.01, spread, len(second)) for second, spread in zip(seconds, spreads)]
        differences = [first - second for first, second in zip(firsts, seconds)]
        squares = np.array([d.var(ddof=1) / len(d) for d in differences])
        freedom = squares.sum() ** 2 / (squares**2 / (np.array(sizes) - 1)).sum()
        error = np.sqrt(squares.sum()) / len(sizes)
        mean = np.mean([d.mean() for d in differences])
        half = stats.t.ppf(0.975, freedom) * error
        yield {
            "first": [list(first) for first in firsts],
            "second": [list(second) for second in seconds],
            "difference": mean,
            "error": error,
            "freedom": freedom,
            "interval": [mean - half, mean + half],
            "p": 2 * stats.t.sf(abs(mean) / error, freedom),
        }


def t_power(freedom, level, noncentrality):
    """Power of the two-sided t-test by scipy's noncentral t, whose series for the lower tail gives NaN where that tail is nothing."""
    critical = stats.t.ppf(1 - level / 2, freedom)
    lower = stats.nct.cdf(-critical, freedom, noncentrality)
    return stats.nct.sf(critical, freedom, noncentrality) + (lower if np.isfinite(lower) else 0.0)


def powers():
    """Power of the two-sided t-test; where statsmodels has a value, it is the same."""
    for freedom, level, noncentrality in itertools.product((1, 2, 2.7, 4, 9, 33.3), (0.05, 0.01, 0.05 / 84), (0.5, 3.0, 12.0)):
        power = t_power(freedom, level, noncentrality)
        if freedom == int(freedom):
            n = freedom + 1
            other = TTestPower().power(noncentrality / np.sqrt(n), n, level, alternative="two-sided")
            assert not np.isfinite(other) or abs(other - power) < 1e-9
        yield {"freedom": freedom, "level": level, "noncentrality": noncentrality, "power": power}


def planned():
    """For a spread of 1: the smallest detectable difference of n pairs, and the pairs that a difference needs."""
    for n, level in itertools.product((3, 5, 10, 20), (0.05, 0.01, 0.0025)):
        least = optimize.brentq(lambda effect: t_power(n - 1, level, effect * np.sqrt(n)) - 0.8, 0.1, 100, xtol=1e-12)
        needed = {}
        for effect in (0.5, 1.0, 2.0):
            at = lambda m, effect=effect: t_power(m - 1, level, effect * np.sqrt(m))
            needed[str(effect)] = next(m for m in range(2, 1000) if at(m) >= 0.8)
        yield {"n": n, "level": level, "detectable": float(least), "needed": needed}


def examples(rng):
    for first, second in ((10, 0), (3, 9), (25, 40), (7, 7), (1, 2), (150, 110)):
        exact = mcnemar([[0, first], [second, 0]], exact=True).pvalue
        middle = 1.0 if first == second else exact - stats.binom.pmf(min(first, second), first + second, 0.5)
        yield {"first": first, "second": second, "p_exact": exact, "p_mid": middle}


def bits(rows):
    return ["".join("1" if bit else "0" for bit in row) for row in rows]


def two_level(rng):
    """The bootstrap over seeds and examples, with 40,000 draws."""
    for seeds, rows, gain in ((1, 300, 0.05), (3, 300, 0.04), (5, 480, 0.0), (10, 200, 0.1)):
        ease = rng.uniform(0.6, 1.0, rows)
        luck = rng.normal(0, 0.02, seeds)
        second = rng.random((seeds, rows)) < ease
        first = rng.random((seeds, rows)) < np.clip(ease + gain + luck[:, None], 0, 1)
        differences = first.astype(float) - second
        wider = np.sqrt(seeds / (seeds - 1)) * stats.t.ppf(0.975, seeds - 1) / stats.norm.ppf(0.975) if seeds > 1 else 0.0
        by_seed, by_row, mean = differences.mean(axis=1), differences.mean(axis=0), differences.mean()
        residual = differences - by_seed[:, None] - by_row[None, :] + mean
        share = (residual**2).sum() / max((seeds - 1) * (rows - 1), 1) / seeds / by_row.var() if seeds > 1 else 0.0
        narrower = np.sqrt(np.clip(1 - share, 0, 1))
        draws = []
        for _ in range(40_000):
            luck = by_seed[rng.integers(0, seeds, seeds)].mean() - mean
            draws.append(mean + wider * luck + narrower * (by_row[rng.integers(0, rows, rows)].mean() - mean))
        low, high = np.quantile(draws, [0.025, 0.975])
        yield {"first": bits(first), "second": bits(second), "value": differences.mean(), "interval": [low, high]}


def aggregates(rng):
    """Interquartile mean and probability of improvement with stratified bootstraps of 40,000 draws."""
    for runs, tasks in ((3, 4), (5, 3), (10, 4)):
        second = rng.normal(0.8, 0.03, (tasks, runs))
        first = rng.normal(0.82, 0.03, (tasks, runs))
        iqm = lambda scores: stats.trim_mean(scores.ravel(), 0.25)
        wins = lambda one, other: np.mean(
            [stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)) for a, b in zip(one, other)]
        )
        quick = lambda one, other: np.mean((one[:, :, None] > other[:, None, :]) + 0.5 * (one[:, :, None] == other[:, None, :]))
        assert abs(wins(first, second) - quick(first, second)) < 1e-12
        redraw = lambda scores: np.take_along_axis(scores, rng.integers(0, runs, scores.shape), axis=1)
        means = [iqm(redraw(first)) for _ in range(40_000)]
        chances = [quick(redraw(first), redraw(second)) for _ in range(40_000)]
        yield {
            "first": first.tolist(),
            "second": second.tolist(),
            "iqm": iqm(first),
            "iqm_interval": list(np.quantile(means, [0.025, 0.975])),
            "improvement": wins(first, second),
            "improvement_interval": list(np.quantile(chances, [0.025, 0.975])),
        }


def friedman(rng):
    """Scores [task][method]; with ties in the last case."""
    cases = [rng.normal(0.8, 0.05, (4, 5)) + np.arange(5) * 0.02, rng.normal(0.8, 0.05, (9, 3))]
    cases.append(np.round(rng.normal(0.8, 0.05, (6, 6)) + np.arange(6) * 0.03, 1))
    for scores in cases:
        tasks, methods = scores.shape
        test = stats.friedmanchisquare(*scores.T)
        chi = test.statistic
        f = (tasks - 1) * chi / (tasks * (methods - 1) - chi)
        q = stats.studentized_range.ppf(0.95, methods, np.inf) / np.sqrt(2)
        yield {
            "scores": scores.tolist(),
            "mean_ranks": stats.rankdata(-scores, axis=1).mean(axis=0).tolist(),
            "chi_squared": chi,
            "p_chi_squared": test.pvalue,
            "f": f,
            "p": stats.f.sf(f, methods - 1, (methods - 1) * (tasks - 1)),
            "critical_difference": q * np.sqrt(methods * (methods + 1) / (6 * tasks)),
        }


def together(rng):
    """Mean correlation of tasks over seeds, and the exact share of permutations that reach it."""
    for tasks, seeds, shared in ((2, 5, 0.0), (2, 5, 2.0), (3, 4, 1.0)):
        luck = shared * rng.normal(size=seeds)
        values = luck + rng.normal(size=(tasks, seeds))
        mean = lambda rows: np.corrcoef(rows)[np.triu_indices(tasks, 1)].mean()
        observed = mean(values)
        orders = list(itertools.permutations(range(seeds)))
        # Moving all tasks alike changes nothing, so the first one stays.
        moved = [mean(np.array([values[0], *(row[list(o)] for row, o in zip(values[1:], chosen))])) for chosen in itertools.product(orders, repeat=tasks - 1)]
        yield {"values": values.tolist(), "correlation": observed, "p": float(np.mean(np.array(moved) >= observed - 1e-9))}


if __name__ == "__main__":
    rng = np.random.default_rng(20261128)
    p_values = rng.random(9) ** 3
    fixture = {
        "paired": list(paired(rng)),
        "stratified": list(stratified(rng)),
        "power": list(powers()),
        "planned": list(planned()),
        "mcnemar": list(examples(rng)),
        "two_level": list(two_level(rng)),
        "aggregates": list(aggregates(rng)),
        "friedman": list(friedman(rng)),
        "together": list(together(rng)),
        "holm": {"p": list(p_values), "adjusted": list(multipletests(p_values, method="holm")[1])},
    }
    plain = lambda value: value.item() if isinstance(value, np.generic) else list(value)
    FIXTURE.write_text(json.dumps(fixture, indent=None, separators=(",", ":"), default=plain) + "\n")
