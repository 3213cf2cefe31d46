#!/usr/bin/env python3
"""What loading a file of NDJSON costs: `landfast load` against PyArrow's read_json and PyIceberg's append.

Each run is a process of its own with a warehouse of its own; CPU seconds and peak memory are the kernel's, of that
process. Both write zstd at level 1. PyArrow holds the whole file in memory; `--times 10` shows what that comes to.
The Python with PyArrow and PyIceberg is the one that `tests/run` installs.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from server import BINARY, REPOSITORY

PYTHON = REPOSITORY / ".tools" / "readers" / "bin" / "python"
CONFIGURATION = """\
warehouse: file://{folder}/warehouse
catalog: {{ type: storage }}
dead_letters: file://{folder}/dead-letters
server: {{ listen: "127.0.0.1:0", push_auth: off }}
tables:
  bench.orders:
    schema:
      - {{ name: id, type: long, required: true }}
      - {{ name: at, type: timestamptz }}
      - {{ name: kind, type: string }}
      - {{ name: total, type: double }}
      - {{ name: buyer, type: "struct<id: long, name: string>" }}
      - {{ name: lines, type: "list<struct<sku: string, n: int>>" }}
    properties: {{ write.parquet.compression-codec: zstd, write.parquet.compression-level: "1" }}
"""
# The same table by PyIceberg, whose SQL catalog needs a file of its own. Prints how many rows it appended.
PYICEBERG = """\
import sys
import pyarrow as pa
import pyarrow.json
from pyiceberg.catalog.sql import SqlCatalog
file, folder = sys.argv[1:]
schema = pa.schema([
    pa.field("id", pa.int64(), nullable=False), ("at", pa.timestamp("us", tz="UTC")), ("kind", pa.string()),
    ("total", pa.float64()), ("buyer", pa.struct([("id", pa.int64()), ("name", pa.string())])),
    ("lines", pa.list_(pa.struct([("sku", pa.string()), ("n", pa.int32())]))),
])
# Of JSON, PyArrow reads no time zone.
naive = schema.set(1, pa.field("at", pa.timestamp("us")))
options = pyarrow.json.ParseOptions(explicit_schema=naive)
rows = pyarrow.json.read_json(file, parse_options=options)
rows = rows.set_column(1, schema.field(1), rows.column(1).cast(schema.field(1).type)).cast(schema)
catalog = SqlCatalog("bench", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
catalog.create_namespace("bench")
properties = {"write.parquet.compression-codec": "zstd", "write.parquet.compression-level": "1"}
catalog.create_table("bench.orders", schema=schema, properties=properties).append(rows)
print(rows.num_rows)
"""


def generate(path, rows):
    """Orders of about 180 bytes, the same ones every time."""
    draw = random.Random(1)
    with open(path, "w", encoding="ascii") as file:
        for number in range(rows):
            order = {
                "id": number,
                "at": f"2026-01-{number % 28 + 1:02}T{number % 24:02}:{number % 60:02}:{number * 7 % 60:02}.{number % 1000:03}Z",
                "kind": f"kind-{number % 7}",
                "total": draw.randrange(1_000_000) / 100,
                "buyer": {"id": draw.randrange(1 << 40), "name": f"buyer {draw.randrange(100_000)}"},
                "lines": [{"sku": f"sku-{draw.randrange(10_000)}", "n": n + 1} for n in range(draw.randrange(1, 4))],
            }
            file.write(json.dumps(order, separators=(",", ":")) + "\n")


def run(command):
    """Its output, and what the kernel counted: CPU seconds, wall seconds, peak MiB."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    output, errors = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} ended with {process.returncode}:\n{errors}")
    # Kibibytes on Linux, bytes on macOS.
    peak = usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024 * 1024)
    return output, {"cpu s": usage.ru_utime + usage.ru_stime, "wall s": wall, "peak MiB": peak}


def measure(tool, path, options):
    with tempfile.TemporaryDirectory(prefix="landfast-bench-", dir=options.dir) as folder:
        if tool == "landfast":
            configuration = Path(folder, "landfast.yaml")
            configuration.write_text(CONFIGURATION.format(folder=folder), encoding="utf-8")
            command = [options.binary, "load", "--output", "json", "--config", configuration, "--table", "bench.orders", path]
            output, result = run(command)
            rows = json.loads(output)[0]["rows"]
        else:
            output, result = run([options.python, "-c", PYICEBERG, path, folder])
            rows = int(output)
        data = Path(folder, "warehouse").rglob("*.parquet")
        result["data MB"] = sum(file.stat().st_size for file in data) / 1e6
    if rows != options.rows * options.times:
        sys.exit(f"{tool} loaded {rows} rows")
    return result


def line(label, result):
    return label.ljust(20) + "".join(f"{value:.2f}".rjust(10) for value in result.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=1, help="make the file so many times larger, to see memory")
    parser.add_argument("--dir", help="where the tables go: a disk, not memory (default: the temporary folder)")
    parser.add_argument("--binary", default=BINARY)
    parser.add_argument("--python", default=PYTHON, help="one with PyArrow and PyIceberg")
    options = parser.parse_args()
    for needed, how in [(options.binary, "cargo build --release --locked"), (options.python, "tests/run")]:
        if not Path(needed).exists():
            sys.exit(f"{needed} is not there: {how}")

    tools = ["landfast", "pyarrow+pyiceberg"]
    results = {tool: [] for tool in tools}
    with tempfile.TemporaryDirectory(prefix="landfast-bench-", dir=options.dir) as folder:
        path = Path(folder, "orders.ndjson")
        generate(path, options.rows * options.times)
        print(f"{options.rows * options.times} rows, {path.stat().st_size / 1e6:.0f} MB of NDJSON")
        # In turns, so that a busy moment of the machine meets both.
        for number in range(1, options.runs + 1):
            for tool in tools:
                results[tool].append(measure(tool, path, options))
                if number == 1 and tool == tools[0]:
                    print(" " * 20 + "".join(name.rjust(10) for name in results[tool][0]))
                print(line(f"{tool} {number}", results[tool][-1]), flush=True)
    medians = {
        tool: {name: statistics.median(result[name] for result in results[tool]) for name in results[tool][0]}
        for tool in tools
    }
    for tool in tools:
        print(line(tool, medians[tool]))
    ours, theirs = (medians[tool] for tool in tools)
    print(line("ratio", {name: theirs[name] / ours[name] for name in ours}))


if __name__ == "__main__":
    main()
