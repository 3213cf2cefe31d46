"""Reads Iceberg tables with ClickHouse, as a library. `protocol.serve` says how it is spoken to.

Its blind spots: format version 3; null lists and maps, which it reads as empty; times, which are seconds to it; bytes,
which are text to it where they can be; the order of uuids; NaNs, which its `max` passes over.
"""

import os
import re

# It refuses paths outside its working folder.
os.chdir("/")

import arrow_values
import chdb
import protocol
import pyarrow as pa

OPERATORS = {"=", "!=", "<", "<=", ">", ">="}
# The files that a scan opens, counted since the process began.
OPENED = "SELECT value FROM system.events WHERE event = 'IcebergMetadataReturnedObjectInfos'"
NESTED = ("Array(", "Tuple(", "Map(")


def text(value):
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quoted(column):
    return ".".join("`" + part.replace("`", "\\`") + "`" for part in column.split("."))


def table(location):
    folder = re.sub(r"/metadata/[^/]*\.metadata\.json$", "", protocol.path_of(location))
    return f"icebergLocal({text(folder)})"


def query(statement):
    settings = "session_timezone = 'UTC', output_format_arrow_string_as_string = 0"
    answer = chdb.query(f"{statement} SETTINGS {settings}", "ArrowStream")
    return pa.ipc.open_stream(answer.bytes()).read_all()


def scalar(statement):
    found = query(statement)
    return found.column(0)[0].as_py() if len(found) else 0


def kinds(location):
    described = query(f"DESCRIBE {table(location)}")
    names, types = (described.column(name).cast(pa.string()).to_pylist() for name in ("name", "type"))
    return {name: kind for name, kind in zip(names, types) if not kind.startswith(NESTED)}


def count(location):
    return scalar(f"SELECT count() FROM {table(location)}")


def columns(location):
    """For each column that is not nested: values, nulls, smallest, largest."""
    found_kinds = kinds(location)
    wanted = ", ".join(f"count({c}), count() - count({c}), min({c}), max({c})" for c in map(quoted, found_kinds))
    found = query(f"SELECT {wanted} FROM {table(location)}").columns
    result = {}
    for at, (name, kind) in enumerate(found_kinds.items()):
        values, nulls, *ends = found[4 * at : 4 * at + 4]
        if kind in ("DateTime64(6)", "Nullable(DateTime64(6))"):
            # Without a zone of its own, it is a timestamp without a zone.
            ends = [end.cast(pa.timestamp("us")) for end in ends]
        if pa.types.is_binary(ends[0].type):
            ends = as_text(ends)
        smallest, largest = (arrow_values.values(end)[0] for end in ends)
        result[name] = {"values": values[0].as_py(), "nulls": nulls[0].as_py(), "min": smallest, "max": largest}
    return result


def as_text(ends):
    """Bytes that are text: its strings are both."""
    try:
        return [end.cast(pa.string()) for end in ends]
    except pa.ArrowInvalid:
        return ends


def sums(location, columns):
    wanted = ", ".join(f"sum({quoted(column)})" for column in columns)
    found = query(f"SELECT {wanted} FROM {table(location)}")
    return [str(found.column(at)[0].as_py()) for at in range(len(columns))]


def count_where(location, column, op, literal):
    """Counts the rows that match, and the data files that were opened for them."""
    if op not in OPERATORS:
        raise ValueError(f"unknown operator {op}")
    literal = text(literal) if isinstance(literal, str) else str(literal)
    kind = kinds(location).get(column, "")
    if "DateTime64" in kind:
        literal = f"parseDateTime64BestEffort({literal}, 6, 'UTC')"
    elif "Decimal" in kind:
        literal = f"cast({literal} AS {kind})"
    opened = scalar(OPENED)
    rows = scalar(f"SELECT count() FROM {table(location)} WHERE {quoted(column)} {op} {literal}")
    return {"rows": rows, "planned_files": scalar(OPENED) - opened}


protocol.serve({"count": count, "columns": columns, "sums": sums, "count_where": count_where})
