"""What the notebooks share: records as a data frame, Student's interval, the program's own tables, the look of a figure."""

import html
import json
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl
from scipy.stats import t

RESULTS = Path(__file__).resolve().parents[1] / "results"

# A palette that survives colour-blindness and grey printing (Okabe and Ito 2008).
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8C8C8C"


def records(study):
    """Every record of a study, in the order of its runs' names."""
    return [json.loads(path.read_text()) for path in sorted((RESULTS / study / "runs").glob("*/record.json"))]


def reported(record):
    """The evaluation of each split and readout that tables show: at the checkpoint that the run selected, or else the last one."""
    best = record.get("best")
    shown = {}
    for evaluation in record["evaluations"]:
        if best is None or evaluation["step"] == best["step"]:
            readout = evaluation["readout"]
            shown[evaluation["split"], readout["label"], readout["rank"]] = evaluation
    return shown


def scores(study, split="dev"):
    """One row per finished run and readout: its score in the task's primary metric, in points, and what the run trained."""
    rows = []
    for record in records(study):
        if record["status"] != "finished":
            continue
        metric = record["primary_metric"]["name"]
        for (of_split, label, rank), evaluation in reported(record).items():
            if of_split == split:
                rows.append(
                    {
                        "task": record["cell"]["task"],
                        "variant": label,
                        "rank": rank,
                        "seed": record["cell"]["seed"],
                        "metric": metric,
                        "score": 100 * evaluation["metrics"][metric],
                        "examples": evaluation["examples"],
                        "parameters": record["measured"]["trainable_params"],
                    }
                )
    return pl.DataFrame(rows).sort("task", "variant", "rank", "seed")


def interval(frame, by, value):
    """Per group: the number of rows, the mean of `value`, its standard deviation, and half the width of the 95% Student interval."""
    summary = frame.group_by(by, maintain_order=True).agg(
        n=pl.len(), mean=pl.col(value).mean(), std=pl.col(value).std()
    )
    quantile = pl.Series(t.ppf(0.975, summary["n"].to_numpy() - 1))
    return summary.with_columns(half=quantile * pl.col("std") / pl.col("n").sqrt())


def shown(mean, half):
    """`mean ± half`, as the program writes it."""
    return f"{mean:.2f} ± {half:.2f}".replace("-0.00", "0.00")


def table(study, name):
    """The rows of a table that the program wrote, every cell as text, under the names of its columns."""
    lines = html.unescape((RESULTS / study / "tables" / f"{name}.md").read_text()).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    header, body = rows[0], [row for row in rows[2:] if any(row[1:])]
    return pl.DataFrame(body, schema=header, orient="row")


def style():
    """Small figures for a page: sober axes, few bytes, no time of making."""
    pl.Config.set_tbl_rows(24).set_tbl_cols(12).set_float_precision(2).set_tbl_hide_dataframe_shape(True)
    pl.Config.set_tbl_hide_column_data_types(True)
    plt.rcParams.update(
        {
            "figure.dpi": 90,
            "savefig.dpi": 90,
            "figure.constrained_layout.use": True,
            "font.size": 9,
            "axes.titlesize": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "grid.color": "#E4E4E4",
            "image.cmap": "viridis",
        }
    )


def label(variant, rank):
    """A row's name in a figure."""
    return variant if rank == 0 else f"{variant} r={rank}"
