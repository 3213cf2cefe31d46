"""Requests and answers as JSON lines, and the one way in which every reader writes a value as JSON."""

import base64
import datetime
import json
import math
import os
import sys
import traceback
import uuid

import pyarrow as pa

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


def path_of(location):
    """The local path of `file:///x`, `file:/x` or `/x`."""
    if location.startswith("file:"):
        location = location.removeprefix("file:")
        return "/" + location.lstrip("/")
    return location


def rows(table):
    """An Arrow table as a list of JSON objects, every value exact."""
    columns = {name: values(table.column(name)) for name in table.column_names}
    return [dict(zip(columns, row)) for row in zip(*columns.values())] if columns else []


def values(array):
    """An Arrow array as JSON values.

    Booleans and integers stay themselves; a decimal, date, time, timestamp, uuid is its ISO or plain text; bytes are
    base64; a map is a list of pairs; a float that JSON has no number for is its name.
    """
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in values(chunk)]
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        texts = values(array.storage)
        if "uuid" in kind.extension_name:
            return [None if text is None else str(uuid.UUID(bytes=base64.b64decode(text))) for text in texts]
        return texts
    if pa.types.is_dictionary(kind):
        return values(array.dictionary_decode())
    if pa.types.is_struct(kind):
        fields = [values(field) for field in array.flatten()]
        names = [field.name for field in kind]
        present = array.is_valid().to_pylist()
        return [dict(zip(names, [f[i] for f in fields])) if there else None for i, there in enumerate(present)]
    if pa.types.is_map(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [element_values(array[i], kind) for i in range(len(array))]
    convert = converter(kind)
    plain = raw(array, kind).to_pylist()
    return [None if value is None else convert(value) for value in plain]


def element_values(scalar, kind):
    if not scalar.is_valid:
        return None
    elements = scalar.values
    if pa.types.is_map(kind):
        keys, items = elements.field(0), elements.field(1)
        return [list(pair) for pair in zip(values(keys), values(items))]
    return values(elements)


def raw(array, kind):
    """Time types as their integers: Python's own types hold neither nanoseconds nor every year."""
    if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        return array.cast(pa.int64())
    if pa.types.is_time32(kind):
        return array.cast(pa.int32())
    return array


def converter(kind):
    if pa.types.is_timestamp(kind):
        zone = "Z" if kind.tz else ""
        return lambda ticks: timestamp_text(ticks, kind.unit) + zone
    if pa.types.is_time(kind):
        return lambda ticks: time_text(ticks, kind.unit)
    if pa.types.is_date(kind):
        return lambda date: date.isoformat()
    if pa.types.is_decimal(kind):
        return lambda number: format(number, "f")
    if pa.types.is_floating(kind):
        return float_value
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return lambda data: base64.b64encode(data).decode()
    return lambda value: value


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
