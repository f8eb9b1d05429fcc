"""Compile every LaTeX table of the committed results with a real TeX, as a paper would: `\\usepackage{booktabs}` and nothing else.

The tables are made anew from the records into target/latex, so that nothing under results/ changes. One document has all of them; it must
compile without an error, an undefined or doubled label, a missing character, or a table that is taller than its page.
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "target" / "latex"

# What TeX's log says of a document that compiles and is wrong.
WRONG = {
    "Missing character": "a character that no font has",
    "multiply defined": "a label that two tables have",
    "undefined references": "a label that no table has",
    "Float too large": "a table that is taller than its page",
    "LaTeX Font Warning": "a font that is not there",
}


def records(results: pathlib.Path) -> list[str]:
    """Copies what `table` reads of every study; returns the studies' names."""
    shutil.rmtree(OUT, ignore_errors=True)
    names = []
    for study in sorted(path for path in (ROOT / "results").iterdir() if (path / "runs").is_dir()):
        names.append(study.name)
        kept = [*study.glob("runs/*/record.json"), *study.glob("tuned.json"), *study.glob("analysis/*.csv")]
        for path in kept:
            copy = results / path.relative_to(ROOT / "results")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return names


def tables(binary: pathlib.Path, results: pathlib.Path, names: list[str]) -> list[pathlib.Path]:
    """Makes every table from the records."""
    for command in [["table", name] for name in names] + [["claims"]]:
        done = subprocess.run([binary, "--results", results, *command], cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: {done.stderr}")
    return sorted(results.glob("*/tables/*.tex")) + sorted(results.glob("paper/*.tex"))


def document(files: list[pathlib.Path]) -> str:
    """All tables, and a reference to each."""
    lines = [r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}"]
    for path in files:
        text = path.read_text(encoding="utf-8")
        if not text.isascii():
            sys.exit(f"{path}: has characters outside ASCII")
        labels = re.findall(r"\\label\{([^}]*)\}", text)
        if len(labels) != 1:
            sys.exit(f"{path}: has {len(labels)} labels, not one")
        lines += [rf"\input{{{path.relative_to(OUT)}}}", rf"Table~\ref{{{labels[0]}}}.", r"\clearpage"]
    return "\n".join([*lines, r"\end{document}", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=ROOT / "target/release/lora-lab", type=pathlib.Path)
    binary = parser.parse_args().binary.resolve()
    if shutil.which("pdflatex") is None:
        sys.exit("there is no pdflatex here, so nothing was compiled; on Debian: apt-get install texlive-latex-base texlive-latex-recommended")
    results = OUT / "results"
    files = tables(binary, results, records(results))
    (OUT / "tables.tex").write_text(document(files), encoding="ascii")
    # Twice: the first finds the labels.
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"], cwd=OUT, capture_output=True, text=True, errors="replace"
        )
        if done.returncode != 0:
            sys.exit("\n".join(done.stdout.splitlines()[-30:]))
    # TeX breaks the lines of its log at 79 characters.
    log = (OUT / "tables.log").read_text(encoding="latin-1").replace("\n", "")
    found = [f"{mark}: {what}" for mark, what in WRONG.items() if mark in log]
    if found:
        sys.exit("\n".join(found) + f"\nsee {OUT / 'tables.log'}")
    wide = len(re.findall(r"Overfull \\hbox", log))
    print(f"{len(files)} tables compiled: {OUT / 'tables.pdf'}; {wide} lines wider than the text")


if __name__ == "__main__":
    main()
