"""Executes the notebooks beside this file, each from a clean kernel, and writes their outputs into them.

    python notebooks/run.py [NAME ..]

A notebook that raises, as its checks do where a number is not the program's, is an error, and its file stays as it was. What is written
has no times and no names of machines, so that an execution which computes the same leaves the same bytes.
"""

import json
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).resolve().parent


def plain(notebook):
    """The notebook without what differs between two executions or two machines."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for at, cell in enumerate(notebook.cells):
        cell["id"], cell["metadata"] = f"cell-{at:02}", {}
        for output in cell.get("outputs", []):
            output.pop("metadata", None)
            if output["output_type"] in ("display_data", "execute_result"):
                output["metadata"] = {}
    return notebook


def text(notebook):
    """The file of a notebook."""
    return json.dumps(json.loads(nbformat.writes(notebook)), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def execute(path):
    """Executes one notebook in place; whether it went well."""
    before, started = path.read_text(), time.monotonic()
    notebook = nbformat.reads(before, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(HERE)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        print(f"{path.name}: {error}", file=sys.stderr)
        return False
    after = text(plain(notebook))
    path.write_text(after)
    what = "as it was" if after == before else "outputs written"
    print(f"{path.name}: {time.monotonic() - started:.0f} s, {len(after) / 1024:.0f} KiB, {what}", file=sys.stderr)
    return True


def main():
    names = sys.argv[1:] or [path.stem for path in sorted(HERE.glob("*.ipynb"))]
    unknown = [name for name in names if not (HERE / f"{name}.ipynb").is_file()]
    if unknown:
        sys.exit(f"no notebook {', '.join(unknown)} in {HERE}")
    return 0 if all([execute(HERE / f"{name}.ipynb") for name in names]) else 1


if __name__ == "__main__":
    sys.exit(main())
