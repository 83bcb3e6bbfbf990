"""What Evidently says of the same windows; runs in an environment of its own, which has evidently and pandas alone.

    python evidently_peer.py windows.parquet found.json

The table has the columns window (-1 is the reference), text, answer and confidence. The file gets for each window
whether any column drifted, and whether the data set did (half of the columns), by the defaults of `DataDriftPreset`.
"""

import json
import sys
import time
import warnings

import pandas as pd


def main() -> None:
    from evidently import DataDefinition, Dataset, Report  # type: ignore[import-not-found]
    from evidently.presets import DataDriftPreset  # type: ignore[import-not-found]

    warnings.simplefilter("ignore")
    frame = pd.read_parquet(sys.argv[1])
    definition = DataDefinition(
        text_columns=["text"], categorical_columns=["answer"], numerical_columns=["confidence", "length"]
    )
    frame["length"] = frame["text"].str.len()

    def data(number: int) -> Dataset:
        rows = frame[frame["window"] == number].drop(columns="window").reset_index(drop=True)
        return Dataset.from_pandas(rows, data_definition=definition)

    reference, found = data(-1), {}
    for number in sorted(set(frame["window"]) - {-1}):
        started = time.perf_counter()
        result = Report([DataDriftPreset()]).run(data(number), reference).dict()
        count = next(m["value"]["count"] for m in result["metrics"] if "DriftedColumnsCount" in m["metric_name"])
        found[str(number)] = {"any": count >= 1, "half": count >= 2, "seconds": time.perf_counter() - started}
    with open(sys.argv[2], "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
