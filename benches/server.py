"""What the benchmarks share: a landfast of their own, its metrics, its memory. Standard library only."""

import collections
import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BINARY = REPOSITORY / "target" / "release" / "landfast"
START_SECONDS = 20
STOP_SECONDS = 20


class Server:
    """A landfast on a free port of 127.0.0.1; stopped, or killed where it does not stop, at the end of `with`."""

    def __init__(self, *arguments, binary=BINARY):
        if not Path(binary).exists():
            sys.exit(f"{binary} is not there: cargo build --release --locked")
        environment = {key: value for key, value in os.environ.items() if key not in ("PORT", "RUST_LOG")}
        self.process = subprocess.Popen(
            [binary, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            errors="replace",
            text=True,
        )
        self.host = self.port = None
        self.last_lines = collections.deque(maxlen=20)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.last_lines.append(line.rstrip())
            found = re.search(r"listening on http://([^\s:/\"]+):(\d+)", line)
            if found and self.port is None:
                self.host, self.port = found[1], int(found[2])

    def __enter__(self):
        try:
            deadline = time.monotonic() + START_SECONDS
            while not self._ready():
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("landfast did not get ready:\n" + "\n".join(self.last_lines))
                time.sleep(0.02)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_error):
        self.stop()

    def _ready(self):
        try:
            return self.port is not None and self.get("/health/ready")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def connect(self, timeout=60):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def get(self, path):
        connection = self.connect(timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metrics(self):
        """Every metric, summed over its labels. The quantiles of a summary and the buckets of a histogram are left out."""
        sums = collections.defaultdict(float)
        for line in self.get("/metrics")[1].splitlines():
            found = re.fullmatch(r"([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)( \d+)?", line)
            if found and 'quantile="' not in (found[2] or "") and not found[1].endswith("_bucket"):
                sums[found[1]] += float(found[3])
        return sums

    def peak_memory_mib(self):
        """The most memory that it had at once; NaN where there is no /proc."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        except OSError:
            return float("nan")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024

    def stop(self):
        """SIGTERM, then SIGKILL. Whether it stopped of its own."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
            return True
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
