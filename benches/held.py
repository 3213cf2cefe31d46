#!/usr/bin/env python3
"""How much memory a held byte takes: the most that `landfast serve` had at once, less what it has idle, over `max_in_flight_bytes`.

Rows come by many connections at a time, more than may be held, so that the limit is reached (429s say so) for the whole run.
Each kind of payload has a server and a folder of its own. The rows that landed are compared with those that were answered.
"""

import argparse
import gzip
import http.client
import json
import shutil
import tempfile
import threading
import time
from pathlib import Path

from server import BINARY, Server

CONFIG = """\
warehouse: file://{folder}/warehouse
catalog: {{ type: storage }}
dead_letters: file://{folder}/dead-letters
server:
  listen: 127.0.0.1:0
  push_auth: off
  max_in_flight_bytes: {held}MiB
  ack_deadline: 60s
tables:
  bench.rows: {{}}
"""

# Rows of one request.
KINDS = {
    "text": lambda size: [{"id": n, "text": f"{n:08d}" * 125} for n in range(size // 1020)],
    "numbers": lambda size: [{f"c{column}": n * 31 + column for column in range(40)} for n in range(size // 450)],
    "small rows": lambda size: [{"a": n % 10} for n in range(size // 8)],
    # Unpacks to nearly a quarter of 256 MiB, which is the most.
    "gzip": lambda size: [{"id": n, "text": f"{n:08d}" * 125} for n in range(15 * size // 1020)],
    "nested": lambda size: [{"id": n, "lines": [{"sku": f"s{line}", "n": line} for line in range(20)]} for n in range(size // 480)],
}


def send(server, body, headers, until, told):
    connection = server.connect()
    while time.monotonic() < until:
        try:
            connection.request("POST", "/v1/tables/bench.rows/records", body, headers)
            answer = connection.getresponse()
            answer.read()
            told[answer.status] = told.get(answer.status, 0) + 1
            if answer.status == 429:
                time.sleep(0.05)
        except (OSError, http.client.HTTPException):
            told["broken"] = told.get("broken", 0) + 1
            connection.close()


def measure(kind, options):
    folder = tempfile.mkdtemp(prefix="landfast-held-")
    config = Path(folder) / "landfast.yaml"
    config.write_text(CONFIG.format(folder=folder, held=options.held), encoding="ascii")
    rows = KINDS[kind](options.bytes)
    body = json.dumps(rows, separators=(",", ":")).encode()
    headers = {"content-type": "application/json"}
    if kind == "gzip":
        body = gzip.compress(body)
        headers["content-encoding"] = "gzip"
    try:
        with Server("serve", "--config", str(config), binary=options.binary) as server:
            idle = server.peak_memory_mib()
            told = [{} for _ in range(options.connections)]
            until = time.monotonic() + options.seconds
            threads = [threading.Thread(target=send, args=(server, body, headers, until, one)) for one in told]
            for thread in threads:
                thread.start()
            most = 0
            while any(thread.is_alive() for thread in threads):
                most = max(most, server.metrics()["landfast_held_bytes"])
                time.sleep(0.1)
            landed = server.metrics()["iceberg_records_written_total"]
            peak = server.peak_memory_mib()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    answers = {status: sum(one.get(status, 0) for one in told) for status in {status for one in told for status in one}}
    good = sum(count for status, count in answers.items() if status in (200, 201, 202, 204))
    if landed != good * len(rows):
        raise SystemExit(f"{kind}: {good} answers of {len(rows)} rows each, and {landed:.0f} rows")
    factor = (peak - idle) / options.held
    print(f"{kind:12} {len(body) / 1e6:6.2f} MB of {len(rows):7} rows  idle {idle:4.0f} MiB  peak {peak:5.0f} MiB  held at most {most / 2**20:4.0f} MiB  a held byte takes {factor:4.2f}  answers {answers}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=BINARY)
    parser.add_argument("--held", type=int, default=256, help="max_in_flight_bytes, MiB")
    parser.add_argument("--bytes", type=int, default=4_000_000, help="of a request, about")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    options = parser.parse_args()
    for kind in options.kinds:
        measure(kind, options)


main()
