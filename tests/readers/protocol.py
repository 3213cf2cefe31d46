"""Requests and answers as JSON lines, and how a number or a time is written in them. Needs no package."""

import datetime
import json
import math
import os
import sys
import traceback

UNITS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
EPOCH = datetime.date(1970, 1, 1)


def serve(operations):
    """Answers each line `{"call": name, ...arguments}` with `{"ok": result}` or `{"error": text}` until stdin ends."""
    # Libraries may print: only answers reach the real stdout.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        try:
            arguments = json.loads(line)
            answer = {"ok": operations[arguments.pop("call")](**arguments)}
        except Exception:  # The test fails with it; the reader lives on.
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer, allow_nan=False) + "\n")
        answers.flush()


def store_of(location):
    """A location as the store's clients take it, and what they are told in Iceberg's words.

    `s3://bucket/x?endpoint=http://host:port` is in the S3 server of a test run, `gs://…` so in that of Cloud Storage.
    """
    location, _, endpoint = location.partition("?endpoint=")
    if not endpoint:
        return path_of(location), {}
    if location.startswith("gs://"):
        far = str(int(datetime.datetime.now().timestamp() * 1000) + 3_600_000)
        return location, {
            "gcs.service.host": endpoint,
            "gcs.oauth2.token": "anon",
            "gcs.oauth2.token-expires-at": far,
        }
    return location, {
        "s3.endpoint": endpoint,
        "s3.access-key-id": "test",
        "s3.secret-access-key": "testtest",
        "s3.region": "us-east-1",
    }


def path_of(location):
    """The local path of `file:///x`, `file:/x` or `/x`."""
    if location.startswith("file:"):
        location = location.removeprefix("file:")
        return "/" + location.lstrip("/")
    return location


def float_value(value):
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def timestamp_text(ticks, unit):
    per_day = 86_400 * UNITS_PER_SECOND[unit]
    days, rest = divmod(ticks, per_day)
    return f"{(EPOCH + datetime.timedelta(days=days)).isoformat()}T{time_text(rest, unit)}"


def time_text(ticks, unit):
    """Microseconds always, nanoseconds where the type has them."""
    per_second = UNITS_PER_SECOND[unit]
    seconds, fraction = divmod(ticks, per_second)
    digits = 9 if unit == "ns" else 6
    fraction = fraction * 10**digits // per_second
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:0{digits}}"
