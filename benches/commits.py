#!/usr/bin/env python3
"""Whether commit 500 costs what commit 20 did: sequential pushes of 100 rows, each of them one commit.

With a commit interval of 0 s and one request at a time, a request's latency is its commit's.
"""

import argparse
import base64
import datetime
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from server import BINARY, Server

CONFIGURATION = """\
warehouse: file://{folder}/warehouse
catalog: {{ type: storage }}
dead_letters: file://{folder}/dead-letters
server: {{ listen: "127.0.0.1:0", push_auth: off }}
tables:
  bench.commits:
    from: [{{ subscription: bench }}]
    format: json
    schema:
      - {{ name: id, type: long, required: true }}
      - {{ name: at, type: timestamptz }}
      - {{ name: kind, type: string }}
      - {{ name: total, type: "decimal(12,2)" }}
    batch: {{ commit_interval: 0s }}
"""
WINDOWS = [(10, 30), (190, 210), (490, 510)]


def push(commit, rows):
    """A push whose message is NDJSON of `rows` orders."""
    at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    orders = ({"id": commit * rows + n, "at": at, "kind": f"kind-{n % 7}", "total": f"{n}.25"} for n in range(rows))
    data = base64.b64encode("\n".join(map(json.dumps, orders)).encode()).decode()
    message = {"messageId": str(commit), "message_id": str(commit), "publishTime": at, "publish_time": at, "data": data}
    return json.dumps({"message": message, "subscription": "projects/p-bench/subscriptions/bench"})


def latencies(server, options):
    """Milliseconds of each commit; ends the benchmark at the first answer that is not 204."""
    connection = server.connect()
    deadline = time.monotonic() + options.timeout
    found = []
    for commit in range(options.commits):
        body = push(commit, options.rows)
        start = time.perf_counter()
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        found.append((time.perf_counter() - start) * 1000)
        if response.status != 204:
            sys.exit(f"commit {commit}: {response.status} {answer.decode(errors='replace')}")
        if time.monotonic() > deadline:
            sys.exit(f"only {commit + 1} commits in {options.timeout} s")
    connection.close()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=520)
    parser.add_argument("--rows", type=int, default=100, help="of one commit")
    parser.add_argument("--timeout", type=int, default=300, help="seconds for all commits")
    parser.add_argument("--dir", help="where the table goes: a disk, not memory (default: the temporary folder)")
    parser.add_argument("--binary", default=BINARY)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="landfast-bench-", dir=options.dir) as folder:
        configuration = Path(folder) / "landfast.yaml"
        configuration.write_text(CONFIGURATION.format(folder=folder), encoding="utf-8")
        with Server("serve", "--config", configuration, binary=options.binary) as server:
            found = latencies(server, options)
            metrics = server.metrics()
            peak = server.peak_memory_mib()

    rows, commits = int(metrics["iceberg_records_written_total"]), int(metrics["iceberg_batches_committed_total"])
    medians = {}
    for first, last in WINDOWS:
        if last <= len(found):
            medians[first] = statistics.median(found[first:last])
            print(f"commits {first} to {last}: median {medians[first]:.2f} ms")
    if len(medians) > 1:
        print(f"last against first: {medians[max(medians)] / medians[min(medians)]:.2f}")
    print(f"{commits} commits, {rows} rows, peak {peak:.0f} MiB")
    right = rows == options.commits * options.rows and commits == options.commits
    if not right:
        print(f"WRONG: sent {options.commits} pushes of {options.rows} rows, one commit each")
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
