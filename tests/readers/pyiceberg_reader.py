"""Reads Iceberg tables with PyIceberg. `protocol.serve` says how it is spoken to; `support/readers.rs` speaks."""

import json
import uuid
import warnings

import arrow_values
import protocol
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg import expressions
from pyiceberg.conversions import from_bytes
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import StaticTable

FILTERS = {
    "=": expressions.EqualTo,
    "!=": expressions.NotEqualTo,
    "<": expressions.LessThan,
    "<=": expressions.LessThanOrEqual,
    ">": expressions.GreaterThan,
    ">=": expressions.GreaterThanOrEqual,
}


def open_table(location):
    return StaticTable.from_metadata(*protocol.store_of(location))


def scan(location, snapshot_id=None, **options):
    return open_table(location).scan(snapshot_id=snapshot_id, **options)


def count(location, snapshot_id=None):
    return scan(location, snapshot_id).count()


def rows(location, snapshot_id=None):
    return arrow_values.rows(scan(location, snapshot_id).to_arrow())


def count_where(location, column, op, literal):
    """Counts the rows that match, and the data files that PyIceberg would open for them."""
    matching = scan(location, row_filter=FILTERS[op](column, literal))
    # Rows are read and filtered: `count()` may answer from a file's metrics alone.
    return {"rows": matching.to_arrow().num_rows, "planned_files": len(list(matching.plan_files()))}


def columns(location):
    """For each top-level column: values, nulls, smallest, largest. A NaN is larger than any number."""
    table = scan(location).to_arrow()
    return arrow_values.summaries(table)


def sums(location, columns):
    table = scan(location).to_arrow()
    return [str(pc.sum(table.column(column)).as_py()) for column in columns]


def describe(location):
    """The table's metadata as the specification writes it in JSON."""
    return json.loads(open_table(location).metadata.model_dump_json())


def inspect(location, what):
    """One of PyIceberg's metadata tables: manifests, snapshots, partitions, refs, history ..."""
    return arrow_values.rows(getattr(open_table(location).inspect, what)())


def files(location, snapshot_id=None):
    """The live data and delete files as their manifests describe them, metrics by column name.

    Not `inspect.files()`: PyIceberg 0.12 fails in it on a table with a uuid column.
    """
    table = open_table(location)
    snapshot = table.current_snapshot() if snapshot_id is None else table.snapshot_by_id(snapshot_id)
    fields = {field_id: table.schema().find_field(field_id) for field_id in table.schema().field_ids}
    found = []
    for manifest in snapshot.manifests(table.io) if snapshot else []:
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            found.append(file_summary(entry, fields, table.schema()))
    return found


def partition_counts(location):
    """Rows per partition: as PyIceberg's transforms say of each row, and as the manifests say. Two maps that must agree."""
    table = open_table(location)
    data, schema, spec = table.scan().to_arrow(), table.schema(), table.spec()
    columns = []
    for field in spec.fields:
        name = schema.find_column_name(field.source_id)
        column, *inner = name.split(".")
        source = data.column(column).combine_chunks()
        for child in inner:
            source = pc.struct_field(source, child)
        kind = schema.find_field(field.source_id).field_type
        transform, result = field.transform.transform(kind), field.transform.result_type(kind)
        columns.append([comparable(transform(value), result) for value in source.to_pylist()])
    by_row, by_file = {}, {}
    for values in zip(*columns):
        by_row[repr(values)] = by_row.get(repr(values), 0) + 1
    kinds = [field.field_type for field in spec.partition_type(schema).fields]
    for task in table.scan().plan_files():
        values = repr(tuple(comparable(value, kind) for value, kind in zip(task.file.partition, kinds)))
        by_file[values] = by_file.get(values, 0) + task.file.record_count
    return {"rows": by_row, "files": by_file}


def comparable(value, kind):
    """A value as text, whether a row or a manifest has it: manifests hold times as numbers."""
    if isinstance(value, int):
        unit = {"date": pa.date32(), "time": pa.time64("us"), "timestamp": pa.timestamp("us")}.get(str(kind))
        unit = pa.timestamp("us", "UTC") if str(kind) == "timestamptz" else unit
        value = pa.scalar(value, unit).as_py() if unit else value
    if isinstance(value, uuid.UUID):
        value = value.bytes
    return str(value)


def file_summary(entry, fields, schema):
    file = entry.data_file

    def by_name(metrics, value=lambda field, number: number):
        return {
            schema.find_column_name(id_) or str(id_): value(fields.get(id_), metric)
            for id_, metric in (metrics or {}).items()
        }

    return {
        "content": file.content.name.lower(),
        "file_path": file.file_path,
        "file_format": file.file_format.name.lower(),
        "spec_id": file.spec_id,
        "partition": [plain(value) for value in file.partition],
        "record_count": file.record_count,
        "file_size_in_bytes": file.file_size_in_bytes,
        "column_sizes": by_name(file.column_sizes),
        "value_counts": by_name(file.value_counts),
        "null_value_counts": by_name(file.null_value_counts),
        "nan_value_counts": by_name(file.nan_value_counts),
        "lower_bounds": by_name(file.lower_bounds, bound),
        "upper_bounds": by_name(file.upper_bounds, bound),
        "lower_bytes": by_name(file.lower_bounds, lambda _field, data: data.hex()),
        "upper_bytes": by_name(file.upper_bounds, lambda _field, data: data.hex()),
        "split_offsets": file.split_offsets,
        "equality_ids": file.equality_ids,
        "sort_order_id": file.sort_order_id,
        "snapshot_id": entry.snapshot_id,
        "sequence_number": entry.sequence_number,
        "file_sequence_number": entry.file_sequence_number,
    }


def bound(field, data):
    """A column's bound as `arrow_values.values` writes its values."""
    if field is None:
        return arrow_values.values(pa.array([data]))[0]
    value = from_bytes(field.field_type, data)
    return str(value) if isinstance(value, uuid.UUID) else typed(value, schema_to_pyarrow(field.field_type))


def typed(value, kind):
    # Bounds of strings and bytes may be cut, also within a fixed length.
    kind = pa.binary() if pa.types.is_fixed_size_binary(kind) else kind
    return arrow_values.values(pa.array([value], kind))[0]


def plain(value):
    return str(value) if isinstance(value, uuid.UUID) else arrow_values.values(pa.array([value]))[0]


warnings.filterwarnings("ignore")
protocol.serve(
    {
        "count": count,
        "rows": rows,
        "count_where": count_where,
        "columns": columns,
        "sums": sums,
        "describe": describe,
        "inspect": inspect,
        "files": files,
        "partition_counts": partition_counts,
    }
)
