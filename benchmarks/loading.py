"""How long `load` takes, and how much memory, for files of the size of MovieLens-25M.

    python -m benchmarks.loading [--ratings 25000000] [FORMAT…]

The pairs are distinct and in random order, which is harder for the vocabularies than the order by user of the original.
Each file is loaded in a process of its own; the seconds leave imports out, the peak includes them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from training.data.dataset import load

USERS, ITEMS = 162_541, 59_047  # of MovieLens-25M
HEADER = "| format | rows | file MB | seconds | peak RSS MB |\n|---|---|---|---|---|"


def main() -> None:
    arguments = _arguments()
    if arguments.load:
        print(json.dumps(_measure(arguments.load)))
        return
    print(HEADER, flush=True)
    with TemporaryDirectory() as folder:
        for name in arguments.formats:
            path = Path(folder) / f"{name}.{name.partition('-')[0]}"
            WRITERS[name](_ratings(arguments.ratings), path)
            command = [sys.executable, "-m", "benchmarks.loading", "--load", str(path)]
            figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            size = path.stat().st_size / 1e6
            print(
                f"| {name} | {figures['rows']:,} | {size:.0f} | {figures['seconds']:.1f} | {figures['peak_mb']:.0f} |",
                flush=True,
            )
            path.unlink()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", default=list(WRITERS), help=", ".join(WRITERS))
    parser.add_argument("--ratings", type=int, default=25_000_000)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(path: Path) -> dict[str, float]:
    started = time.perf_counter()
    dataset = load([str(path)], rng=np.random.default_rng(0), cache=path.parent)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"rows": len(dataset.ratings), "seconds": seconds, "peak_mb": peak / 1e6}


def _ratings(rows: int) -> pa.Table:
    rng = np.random.default_rng(0)
    cells = np.unique(rng.integers(USERS * ITEMS, size=rows + rows // 100, dtype=np.int64))
    cells = rng.permutation(cells)[:rows]
    return pa.table(
        {
            "user": cells // ITEMS,
            "item": cells % ITEMS,
            "rating": rng.integers(1, 11, rows) / 2,
            "timestamp": rng.integers(789652009, 1574327703, rows),
        }
    )


def _write_parquet(table: pa.Table, path: Path) -> None:
    parquet.write_table(table, path)


def _write_parquet_of_strings(table: pa.Table, path: Path) -> None:
    for column, prefix in (("user", "user-"), ("item", "tt")):
        names = pc.binary_join_element_wise(prefix, table[column].cast(pa.string()), "")
        table = table.set_column(table.column_names.index(column), column, names)
    parquet.write_table(table, path)


def _write_csv(table: pa.Table, path: Path) -> None:
    csv.write_csv(table, path)


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "parquet": _write_parquet,
    "parquet-strings": _write_parquet_of_strings,
    "csv": _write_csv,
}

if __name__ == "__main__":
    main()
