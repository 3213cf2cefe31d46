#!/usr/bin/env python3
"""What a start costs: CPU time and memory from exec until `/health/ready` answers, with a gs:// warehouse.

benches/start.py [ROUNDS] wants target/release/landfast. Whatever the process would ask of Google goes to a listener here,
which counts: it is to be asked for nothing. Prints the median, the highest CPU time, and the memory then.
"""

import os
import pathlib
import re
import socket
import statistics
import sys
import tempfile
import threading

from server import BINARY, Server

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
CONFIG = """
warehouse: gs://lake/warehouse
catalog: { type: storage }
dead_letters: gs://lake/letters
server: { listen: "127.0.0.1:0", push_auth: { audience: "https://ingest.example", service_accounts: [push@p.iam.gserviceaccount.com] } }
tables:
  shop.orders: { from: [{ subscription: orders }, { bucket: landing }], schema: [{ name: id, type: long }] }
"""


def main():
    calls = 0
    listener = socket.create_server(("127.0.0.1", 0))

    def count():
        nonlocal calls
        while True:
            call, _ = listener.accept()
            calls += 1
            call.close()

    threading.Thread(target=count, daemon=True).start()
    address = "127.0.0.1:%d" % listener.getsockname()[1]
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "NO_PROXY", "no_proxy"):
        os.environ.pop(name, None)
    os.environ.update(GCE_METADATA_HOST=address, HTTPS_PROXY=f"http://{address}", ALL_PROXY=f"http://{address}")
    ticks = os.sysconf("SC_CLK_TCK")
    cpu, memory = [], []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        config = pathlib.Path(folder, "landfast.yaml")
        config.write_text(CONFIG)
        for _ in range(ROUNDS):
            with Server("serve", "--config", str(config), binary=os.environ.get("LANDFAST", BINARY)) as server:
                process = pathlib.Path(f"/proc/{server.process.pid}")
                fields = process.joinpath("stat").read_text().rsplit(")", 1)[1].split()
                cpu.append((int(fields[11]) + int(fields[12])) * 1000 / ticks)
                memory.append(int(re.search(r"VmRSS:\s+(\d+)", process.joinpath("status").read_text())[1]) / 1024)
    print(f"{ROUNDS} starts: CPU median {statistics.median(cpu):.0f} ms, highest {max(cpu):.0f} ms; "
          f"memory median {statistics.median(memory):.0f} MiB; calls to the network {calls}")
    if calls:
        sys.exit("the network was asked before anything was delivered")


if __name__ == "__main__":
    main()
