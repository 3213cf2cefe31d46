#!/usr/bin/env python3
"""A large object, streamed by a server of its own, against a local load of the same bytes.

benches/object.py [BLOCKS] [LOCAL_BLOCKS] wants target/release/landfast. A block is 4 MiB of orders (250 B each); 2,390 of them
are 10 GB. The object is generated while it is sent, with the CRC32C of the whole, as Cloud Storage sends media; only the local
file takes room. Prints wall seconds, CPU-seconds, CPU-seconds per GB, and the server's peak of resident memory.
"""

import base64
import http.server
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from server import BINARY as BUILT
from server import Server

BINARY = os.environ.get("LANDFAST", str(BUILT))
GENERATION = 1767323045987654
COLUMNS = (
    "{ name: id, type: long, required: true }, { name: at, type: timestamptz }, { name: customer, type: string }, "
    '{ name: status, type: string }, { name: total, type: "decimal(12,2)" }, { name: quantity, type: long }, '
    "{ name: price, type: double }, { name: note, type: string }, { name: tags, type: string }"
)

# The Castagnoli polynomial, reflected.
POLYNOMIAL = 0x82F63B78


def table():
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (POLYNOMIAL if byte & 1 else 0)
        yield byte


TABLE = list(table())


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def times(matrix, vector):
    total = 0
    for row in matrix:
        if vector & 1:
            total ^= row
        vector >>= 1
    return total


def behind(zeros, crc):
    """What a sum becomes with so many zero bytes behind it."""
    matrix = [POLYNOMIAL] + [1 << bit for bit in range(31)]
    for _ in range(3):
        matrix = [times(matrix, row) for row in matrix]
    while zeros:
        if zeros & 1:
            crc = times(matrix, crc)
        matrix = [times(matrix, row) for row in matrix]
        zeros >>= 1
    return crc


def orders():
    lines, size = [], 0
    while size < 4 << 20:
        n = len(lines)
        row = {
            "id": n,
            "at": f"2026-01-{n % 28 + 1:02}T{n % 24:02}:{n % 60:02}:{n * 7 % 60:02}.123Z",
            "customer": f"customer-{n * 7919 % 1000000:06}",
            "status": ["new", "paid", "sent"][n % 3],
            "total": f"{n * 37 % 10000}.{n % 100:02}",
            "quantity": n % 17,
            "price": (n * 31 % 100000) / 7,
            "note": f"ordered by the web shop, to be delivered at the back door {n * 104729 % 999983}",
            "tags": "a,b,c",
        }
        lines.append(json.dumps(row) + "\n")
        size += len(lines[-1])
    return "".join(lines).encode(), len(lines)


def serve(block, count):
    """Sends the block so many times as one object, whatever is asked for."""
    one = total = crc32c(block)
    for _ in range(count - 1):
        total = behind(len(block), total) ^ one
    checksum = base64.b64encode(struct.pack(">I", total)).decode()
    size = len(block) * count

    class Media(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(200)
            for name, value in {
                "content-type": "application/octet-stream",
                "content-length": size,
                "x-goog-generation": GENERATION,
                "x-goog-metageneration": 1,
                "x-goog-stored-content-encoding": "identity",
                "x-goog-stored-content-length": size,
                "x-goog-hash": f"crc32c={checksum}",
            }.items():
                self.send_header(name, str(value))
            self.end_headers()
            for _ in range(count):
                self.wfile.write(block)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Media)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def tell(what, size, wall, cpu, peak):
    gigabytes = size / 1e9
    print(f"{what}: {gigabytes:.1f} GB, {wall:.1f} s, {cpu:.1f} CPU-s, {cpu / gigabytes:.2f} CPU-s/GB, {peak / 1e6:.0f} MB at most")


def push_object(config, storage, size):
    os.environ["STORAGE_EMULATOR_HOST"] = storage
    with Server("serve", "--config", config, binary=BINARY) as server:
        attributes = {
            "bucketId": "acme-landing",
            "objectId": "orders.ndjson",
            "objectGeneration": str(GENERATION),
            "eventType": "OBJECT_FINALIZE",
            "payloadFormat": "NONE",
        }
        message = {"messageId": "1", "publishTime": "2026-01-02T03:04:05Z", "attributes": attributes}
        body = json.dumps({"subscription": "projects/p/subscriptions/landing", "message": message}).encode()
        begun = time.time()
        address = f"http://{server.host}:{server.port}/"
        request = urllib.request.Request(address, body, {"content-type": "application/json"})
        assert urllib.request.urlopen(request, timeout=600).status == 204
        wall = time.time() - begun
        with open(f"/proc/{server.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        with open(f"/proc/{server.process.pid}/status") as status:
            peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
        tell("object", size, wall, cpu, peak)


def load_file(config, path, size):
    begun = time.time()
    arguments = [BINARY, "load", "--config", config, "--table", "shop.local", path]
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    gigabytes, cpu = size / 1e9, used.ru_utime + used.ru_stime
    return time.time() - begun, cpu, cpu / gigabytes


def main():
    blocks = int(sys.argv[1]) if len(sys.argv) > 1 else 2390
    local = int(sys.argv[2]) if len(sys.argv) > 2 else 240
    block, _ = orders()
    with tempfile.TemporaryDirectory() as folder:
        config = f"{folder}/landfast.yaml"
        with open(config, "w") as file:
            file.write(
                f"warehouse: file://{folder}/warehouse\ncatalog: {{ type: storage }}\ndead_letters: file://{folder}/letters\n"
                "server: { listen: 127.0.0.1:0, push_auth: off, ack_deadline: 600s }\ntables:\n"
                f"  shop.orders: {{ from: [{{ bucket: acme-landing }}], schema: [{COLUMNS}] }}\n"
                f"  shop.local: {{ schema: [{COLUMNS}] }}\n"
            )
        path = f"{folder}/orders.ndjson"
        with open(path, "wb") as file:
            for _ in range(local):
                file.write(block)
        # First, so that the children's time is its alone.
        wall, cpu, per_gigabyte = load_file(config, path, len(block) * local)
        print(f"load: {len(block) * local / 1e9:.1f} GB, {wall:.1f} s, {cpu:.1f} CPU-s, {per_gigabyte:.2f} CPU-s/GB")
        push_object(config, serve(block, blocks), len(block) * blocks)


main()
