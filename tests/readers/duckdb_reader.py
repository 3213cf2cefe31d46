"""Reads Iceberg tables with DuckDB. `protocol.serve` says how it is spoken to; `support/readers.rs` speaks."""

import json
import os
import sys

import arrow_values
import duckdb
import protocol
from duckdb_extensions import import_extension

OPERATORS = {"=", "!=", "<", "<=", ">", ">="}

db = duckdb.connect(
    config={
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        # Beside the packages that bring them: the user's own extensions stay as they are.
        "extension_directory": os.path.join(sys.prefix, "duckdb-extensions"),
        "threads": 1,
    }
)
for extension in ("avro", "iceberg"):
    import_extension(extension, con=db)
    db.load_extension(extension)
db.execute("set timezone = 'UTC'")


def text(value):
    return "'" + value.replace("'", "''") + "'"


def name(column):
    return ".".join('"' + part.replace('"', '""') + '"' for part in column.split("."))


def table(location, snapshot_id=None):
    snapshot = "" if snapshot_id is None else f", snapshot_from_id = {int(snapshot_id)}"
    path, store = protocol.store_of(location)
    if store:
        reach(store)
    return f"iceberg_scan({text(path)}{snapshot})"


def reach(store):
    """Makes the S3 server of these properties the one that is asked, or that of Cloud Storage, which asks for no key."""
    import_extension("httpfs", con=db)
    db.load_extension("httpfs")
    if "gcs.service.host" in store:
        scheme, host = store["gcs.service.host"].split("://")
        db.execute(
            f"create or replace secret store (type gcs, key_id 'any', secret 'any', endpoint {text(host)}, "
            f"url_style 'path', use_ssl {str(scheme == 'https').lower()})"
        )
        return
    scheme, host = store["s3.endpoint"].split("://")
    db.execute(
        f"create or replace secret store (type s3, key_id {text(store['s3.access-key-id'])}, "
        f"secret {text(store['s3.secret-access-key'])}, region {text(store['s3.region'])}, endpoint {text(host)}, "
        f"url_style 'path', use_ssl {str(scheme == 'https').lower()})"
    )


def arrow(query):
    return db.execute(query).to_arrow_table()


def scalar(query):
    return db.execute(query).fetchone()[0]


def count(location, snapshot_id=None):
    return scalar(f"select count(*) from {table(location, snapshot_id)}")


def rows(location, snapshot_id=None):
    return arrow_values.rows(arrow(f"select * from {table(location, snapshot_id)}"))


def count_where(location, column, op, literal):
    if op not in OPERATORS:
        raise ValueError(f"unknown operator {op}")
    # A quoted literal takes the column's type, whatever that is.
    literal = text(str(literal).lower() if isinstance(literal, bool) else str(literal))
    query = f"select count(*) from {table(location)} where {name(column)} {op} {literal}"
    return {"rows": scalar(query), "planned_files": files_read(query)}


def files_read(query):
    """The data files that a query opened."""
    plan = json.loads(db.execute(f"explain (analyze, format json) {query}").fetchone()[1])
    operators = [plan]
    while operators:
        operator = operators.pop()
        operators.extend(operator.get("children", []))
        read = operator.get("extra_info", {}).get("Total Files Read")
        if read is not None:
            return int(read)
    # A filter that no file can match leaves no scan in the plan.
    return 0


def sums(location, columns):
    wanted = ", ".join(f"cast(sum({name(column)}) as varchar)" for column in columns)
    return list(db.execute(f"select {wanted} from {table(location)}").fetchone())


def columns(location):
    """For each top-level column: values, nulls, smallest, largest. A NaN is larger than any number."""
    result = {}
    for column, kind, *_ in db.execute(f"describe select * from {table(location)}").fetchall():
        quoted = '"' + column.replace('"', '""') + '"'
        nested = kind.endswith("[]") or kind.startswith(("STRUCT", "MAP"))
        ends = "null, null" if nested else f"min({quoted}), max({quoted})"
        answer = arrow(f"select count({quoted}), count(*) - count({quoted}), {ends} from {table(location)}")
        values, nulls, smallest, largest = (arrow_values.values(answer.column(i))[0] for i in range(4))
        result[column] = {"values": values, "nulls": nulls, "min": smallest, "max": largest}
    return result


def run(catalog, statement):
    """Runs a statement on a REST catalog, which is `@`. Nothing of it is remembered for the next."""
    import_extension("httpfs", con=db)
    db.load_extension("httpfs")
    db.execute(f"attach '' as lake (type iceberg, endpoint {text(catalog['uri'])}, authorization_type 'none')")
    try:
        return [[str(value) for value in row] for row in db.execute(statement.replace("@", "lake")).fetchall()]
    finally:
        db.execute("detach lake")


protocol.serve({"count": count, "rows": rows, "count_where": count_where, "columns": columns, "sums": sums, "run": run})
