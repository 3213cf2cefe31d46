#!/usr/bin/env python3
"""What partitions cost a load, end to end: `landfast load` of one file of NDJSON into three tables, in turn.

The same rows go into a table without partitions, one of 20 days and one of 10,000 identity partitions. Every row is of
a random partition, the worst order there is. Each run is a process with a warehouse of its own, up to the commit.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path

from load import CONFIGURATION, line, run
from server import BINARY

TABLES = {"no partitions": "", "20 days": "day(at)", "10,000 keys": "key"}
FILES = {"20 days": 20, "10,000 keys": 10_000}


def generate(path, rows):
    """Orders of about 200 bytes, the same ones every time."""
    draw = random.Random(1)
    with open(path, "w", encoding="ascii") as file:
        for number in range(rows):
            order = {
                "id": number,
                "at": f"2026-01-{draw.randrange(20) + 1:02}T{number % 24:02}:{number % 60:02}:{number * 7 % 60:02}.{number % 1000:03}Z",
                "key": draw.randrange(10_000),
                "kind": f"kind-{number % 7}",
                "total": draw.randrange(1_000_000) / 100,
                "buyer": {"id": draw.randrange(1 << 40), "name": f"buyer {draw.randrange(100_000)}"},
                "lines": [{"sku": f"sku-{draw.randrange(10_000)}", "n": n + 1} for n in range(draw.randrange(1, 4))],
            }
            file.write(json.dumps(order, separators=(",", ":")) + "\n")


def measure(table, path, options):
    with tempfile.TemporaryDirectory(prefix="landfast-bench-", dir=options.dir) as folder:
        configuration = CONFIGURATION.format(folder=folder)
        columns = "      - { name: key, type: long }\n    properties:"
        configuration = configuration.replace("    properties:", columns)
        configuration += f'    partition_by: ["{TABLES[table]}"]\n' if TABLES[table] else ""
        file = Path(folder, "landfast.yaml")
        file.write_text(configuration, encoding="utf-8")
        output, result = run([options.binary, "load", "--output", "json", "--config", file, "--table", "bench.orders", path])
        loaded = json.loads(output)[0]
    result["files"] = loaded["data_files"]
    result["data MB"] = loaded["bytes"] / 1e6
    if loaded["rows"] != options.rows:
        sys.exit(f"{table}: loaded {loaded['rows']} rows")
    if result["files"] != FILES.get(table, result["files"]):
        sys.exit(f"{table}: {result['files']} files where one a partition would do")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dir", help="where the tables go: a disk, not memory (default: the temporary folder)")
    parser.add_argument("--binary", default=BINARY)
    options = parser.parse_args()
    if not Path(options.binary).exists():
        sys.exit(f"{options.binary} is not there: cargo build --release --locked")

    results = {table: [] for table in TABLES}
    with tempfile.TemporaryDirectory(prefix="landfast-bench-", dir=options.dir) as folder:
        path = Path(folder, "orders.ndjson")
        generate(path, options.rows)
        print(f"{options.rows} rows, {path.stat().st_size / 1e6:.0f} MB of NDJSON")
        # In turns, so that a busy moment of the machine meets all.
        for number in range(1, options.runs + 1):
            for table in TABLES:
                results[table].append(measure(table, path, options))
                if number == 1 and table == "no partitions":
                    print(" " * 20 + "".join(name.rjust(10) for name in results[table][0]))
                print(line(f"{table} {number}", results[table][-1]), flush=True)
    medians = {
        table: {name: statistics.median(result[name] for result in of_one) for name in of_one[0]}
        for table, of_one in results.items()
    }
    first = medians["no partitions"]
    for table, median in medians.items():
        print(line(table, median))
        print(line("  to no partitions", {name: median[name] / first[name] for name in first}))


if __name__ == "__main__":
    main()
