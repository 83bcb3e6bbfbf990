"""The command that adds rows to a dataset: `pigeonhole data append`."""

import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.base.options import CheckOption, FormatOption, assigned
from pipelines.cli.base.output import show


def append(
    dataset: Annotated[Path, typer.Argument(help="A prepared dataset, such as the folder data of a run.")],
    rows: Annotated[
        str, typer.Argument(help="What to add: an address as for --data of run, with a train split alone.")
    ],
    out: Annotated[Path, typer.Option(envvar="PIGEONHOLE_OUT", help="Folder for the new dataset.")],
    new_labels: Annotated[bool, typer.Option("--new-labels", help="Allow labels that the dataset lacks.")] = False,
    check: CheckOption = None,
    seed: Annotated[int, typer.Option(envvar="PIGEONHOLE_SEED", help="Fixes which rows go to validation.")] = 42,
    format_: FormatOption = None,
) -> None:
    """Add rows to a dataset, whose test split stays as it is.

    Writes a new dataset. New rows are checked as in a run; those that are unusable, or known, are counted
    and left out. Others go to train, and to validation by the share that it has. Prints added, digest and more.

    Examples:
      pigeonhole data append out/news/data data/labelled.csv --out out/more
      pigeonhole data append out/news/data data/new-topics --new-labels --check max_rejected=0.01 --out out/more
    """
    from components.data.append import append as append_rows
    from components.data.append import is_multi_label
    from components.data.collect import collect
    from components.data.preparing.settings import Checks

    limits = Checks.named(assigned(check, "--check"))
    with redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        collected = Path(folder) / "collected"
        collect(rows, collected, multi_label=is_multi_label(dataset))
        report = append_rows(dataset, collected, out, seed, limits, new_labels)
    last = report["appended"][-1]
    shown = {name: last[name] for name in ("given", "added", "rejected", "duplicates", "leakage", "new_labels")}
    show({"dataset": str(out), "digest": report["sha256"], "parent": last["parent"], **shown}, format_)
