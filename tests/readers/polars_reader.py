"""Reads Iceberg tables with polars: its own Parquet reader, on the files that PyIceberg plans. See `protocol.serve`.

Its blind spots: uuids, which are bytes to it.
"""

import datetime
import decimal
import os
import re

os.environ["POLARS_ICEBERG_PLANNER"] = "pyiceberg"

import arrow_values
import polars as pl
import protocol
import pyarrow as pa
from pyiceberg.table import StaticTable

COMPARISONS = {
    "=": pl.Expr.eq,
    "!=": pl.Expr.ne,
    "<": pl.Expr.lt,
    "<=": pl.Expr.le,
    ">": pl.Expr.gt,
    ">=": pl.Expr.ge,
}


def scan(location):
    table = StaticTable.from_metadata(protocol.path_of(location))
    return pl.scan_iceberg(table, reader_override="native")


def count(location):
    return scan(location).select(pl.len()).collect().item()


def columns(location):
    """For each top-level column: values, nulls, smallest, largest. A NaN is larger than any number."""
    table = scan(location).collect().to_arrow()
    # Its times are of nanoseconds; the tables' are not.
    kinds = [pa.time64("us") if pa.types.is_time(field.type) else field.type for field in table.schema]
    return arrow_values.summaries(pa.table([c.cast(k) for c, k in zip(table.columns, kinds)], table.column_names))


def sums(location, columns):
    found = scan(location).select([pl.col(column).sum() for column in columns]).collect()
    return [str(found[column].item()) for column in columns]


def count_where(location, column, op, literal):
    """Counts the rows that match, and the data files that the plan opens for them."""
    frame = scan(location)
    name, *fields = column.split(".")
    found = pl.col(name)
    for field in fields:
        found = found.struct.field(field)
    kind = frame.select(found).collect_schema().dtypes()[0]
    matching = frame.filter(COMPARISONS[op](found, typed(literal, kind)))
    return {"rows": matching.select(pl.len()).collect().item(), "planned_files": planned_files(matching)}


def typed(literal, kind):
    """A text as a value of the column's type: casts of literals reach no file's bounds."""
    if kind == pl.Date:
        return datetime.date.fromisoformat(literal)
    if isinstance(kind, pl.Datetime):
        return datetime.datetime.fromisoformat(literal)
    return decimal.Decimal(literal) if isinstance(kind, pl.Decimal) else literal


def planned_files(frame):
    # The plan names one file, and how many more: `SCAN [a, ... 2 other sources]`.
    plan = frame.explain()
    sources = re.search(r"SCAN \[([^\]]*)\]", plan)
    if sources is None:
        return 0
    others = re.search(r"\.\.\. (\d+) other", sources[1])
    return sources[1].count(".parquet") + (int(others[1]) if others else 0)


protocol.serve({"count": count, "columns": columns, "sums": sums, "count_where": count_where})
