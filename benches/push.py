#!/usr/bin/env python3
"""How many pushes a second `landfast dev` commits, with 1,000 of them held open.

Each run has a server and a folder of its own. Afterwards the rows that the server committed are compared with the
answers that wrk saw: every 204 is a row, and a row without a 204 was in flight when wrk stopped.
"""

import argparse
import base64
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from server import BINARY, REPOSITORY, Server

COLUMNS = [
    ("messages/s", "messages_per_second", "{:.0f}"),
    ("p50 ms", "p50_ms", "{:.1f}"),
    ("p99 ms", "p99_ms", "{:.1f}"),
    ("non-2xx", "refused", "{:.0f}"),
    ("broken", "broken", "{:.0f}"),
    ("peak MiB", "peak_mib", "{:.0f}"),
    ("rows/batch", "rows_per_batch", "{:.1f}"),
]


def wrk():
    """The wrk command; installed where that takes no more than apt-get."""
    if not shutil.which("wrk") and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-q", "wrk"], check=False, stdout=subprocess.DEVNULL)
    return shutil.which("wrk") or sys.exit("wrk is not installed. On Debian: apt-get install wrk")


def payload(size):
    """A JSON order of exactly `size` bytes."""
    order = {"id": 4711, "at": "2026-01-02T03:04:05Z", "total": "12.50", "kind": "order", "note": ""}
    order["note"] = "x" * max(0, size - len(json.dumps(order)))
    return json.dumps(order).encode()


def raise_file_limit(connections):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + 200
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            sys.exit(f"{connections} connections need {wanted} open files, the limit is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def load(server, options, name):
    data = base64.b64encode(payload(options.bytes)).decode()
    command = [wrk(), "--threads", "1", "--connections", str(options.connections)]
    command += ["--duration", f"{options.seconds}s", "--timeout", "30s", "--script", REPOSITORY / "benches" / "push.lua"]
    command += [f"http://{server.host}:{server.port}/", "--", name, data]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=options.seconds + 60).stdout
    return json.loads(re.search(r"^RESULT (.*)$", output, re.MULTILINE)[1])


def settled_rows(server):
    """The committed rows, once their number stands still: what was in flight still commits."""
    deadline = time.monotonic() + 30
    before, since = None, time.monotonic()
    while time.monotonic() < deadline:
        rows = int(server.metrics()["iceberg_records_written_total"])
        if rows != before:
            before, since = rows, time.monotonic()
        elif time.monotonic() - since > 2:
            break
        time.sleep(0.1)
    return before


def measure(options, name):
    with tempfile.TemporaryDirectory(prefix="landfast-bench-", dir=options.dir) as folder:
        with Server("dev", "--dir", folder, "--listen", "127.0.0.1:0", binary=options.binary) as server:
            result = load(server, options, name)
            rows = settled_rows(server)
            metrics = server.metrics()
            result["peak_mib"] = server.peak_memory_mib()
    acknowledged = result["answers"] - result["refused"]
    batches = metrics["iceberg_records_per_batch_count"]
    result["rows_per_batch"] = metrics["iceberg_records_per_batch_sum"] / batches if batches else float("nan")
    result["messages_per_second"] = acknowledged / result["seconds"]
    result["acknowledged"], result["rows"] = acknowledged, rows
    result["once"] = acknowledged <= rows <= acknowledged + options.connections + result["broken"] + result["timeouts"]
    return result


def line(label, result):
    cells = (text.format(result[key]).rjust(len(name) + 2) for name, key, text in COLUMNS)
    return label.ljust(8) + "".join(cells)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10, help="of one run")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--bytes", type=int, default=300, help="of one message's payload")
    parser.add_argument("--dir", help="where the tables go: a disk, not memory (default: the temporary folder)")
    parser.add_argument("--binary", default=BINARY)
    options = parser.parse_args()
    raise_file_limit(options.connections)

    print("run".ljust(8) + "".join("  " + name for name, _, _ in COLUMNS))
    results = []
    for number in range(1, options.runs + 1):
        results.append(measure(options, f"{os.getpid()}-{number}"))
        print(line(str(number), results[-1]), flush=True)
    print(line("median", {key: statistics.median(result[key] for result in results) for _, key, _ in COLUMNS}))
    for number, result in enumerate(results, 1):
        verdict = "each 204 is a row" if result["once"] else "WRONG: rows and 204s do not agree"
        unanswered = result["rows"] - result["acknowledged"]
        print(f"run {number}: {result['acknowledged']} times 204, {result['rows']} rows ({unanswered} in flight at the end): {verdict}")
    sys.exit(0 if all(result["once"] for result in results) else 1)


if __name__ == "__main__":
    main()
