"""The data stage measured: `make bench-data DATA=path/to/ag_news`, or `ONLY="near cleaning"` for some parts."""

import argparse
import importlib
import pkgutil
from pathlib import Path

from tests.benchmarks import data
from tests.benchmarks.table import publish

PARTS = sorted(module.name for module in pkgutil.iter_modules(data.__path__) if not module.name.startswith("_"))
"""Modules with a function `measure(folder)` that returns rows."""


def main() -> None:
    """Run the parts one after the other, and publish their rows together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with AG News: train.csv.gz and test.csv.gz")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, help="parts to run  [default: all]")
    asked = parser.parse_args()
    rows = []
    for name in asked.only:
        print(f"{name} ...", flush=True)
        rows += importlib.import_module(f"tests.benchmarks.data.{name}").measure(asked.data)
    publish("data", rows)


if __name__ == "__main__":
    main()
