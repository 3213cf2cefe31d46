"""Writes a table that landfast had no part in, so that the readers themselves can be judged."""

import datetime as dt
import math
import os
import uuid
from decimal import Decimal

import protocol
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

LINE = StructType(
    NestedField(33, "sku", StringType(), required=False),
    NestedField(34, "n", IntegerType(), required=False),
)
SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=True),
    NestedField(2, "flag", BooleanType(), required=False),
    NestedField(3, "small", IntegerType(), required=False),
    NestedField(4, "single", FloatType(), required=False),
    NestedField(5, "real", DoubleType(), required=False),
    NestedField(6, "total", DecimalType(12, 2), required=False),
    NestedField(7, "wide", DecimalType(38, 10), required=False),
    NestedField(8, "day", DateType(), required=False),
    NestedField(9, "clock", TimeType(), required=False),
    NestedField(10, "at", TimestampType(), required=False),
    NestedField(11, "at_zone", TimestamptzType(), required=False),
    NestedField(12, "kind", StringType(), required=False),
    NestedField(13, "key", UUIDType(), required=False),
    NestedField(14, "four", FixedType(4), required=False),
    NestedField(15, "raw", BinaryType(), required=False),
    NestedField(16, "buyer", LINE, required=False),
    NestedField(17, "lines", ListType(30, LINE, element_required=False), required=False),
    NestedField(18, "tags", MapType(31, StringType(), 32, LongType(), value_required=False), required=False),
)
ROWS = [
    {
        "id": 2**63 - 1,
        "flag": True,
        "small": -(2**31),
        "single": 1.5,
        "real": 0.1,
        "total": Decimal("9999999999.99"),
        "wide": Decimal("1234567890123456789012345678.0123456789"),
        "day": dt.date(2026, 2, 28),
        "clock": dt.time(23, 59, 59, 999_999),
        "at": dt.datetime(1969, 12, 31, 23, 59, 59, 999_999),
        "at_zone": dt.datetime(2026, 11, 21, 1, 2, 3, 4, tzinfo=dt.timezone.utc),
        "kind": "naïve 'quoted' ☃",
        "key": uuid.UUID("00112233-4455-6677-8899-aabbccddeeff").bytes,
        "four": b"\x00\x01\xfe\xff",
        "raw": b"\x00bytes\xff",
        "buyer": {"sku": "a", "n": 1},
        "lines": [{"sku": "b", "n": None}, None],
        "tags": [("x", 1), ("y", None)],
    },
    {
        "id": 1,
        "kind": "b",
        "single": math.inf,
        "real": math.nan,
        "buyer": {"sku": None, "n": None},
        "lines": [],
        "tags": [],
    },
    # PyIceberg writes a null list of structs as an empty one, so it is none here: `write_null_lists`.
    {"id": 2, "kind": None, "lines": []},
]


def catalog_in(folder):
    catalog = SqlCatalog("sample", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
    catalog.create_namespace("shop")
    return catalog


def write(folder):
    """Makes the table with one commit per row."""
    spec = PartitionSpec(PartitionField(12, 1000, IdentityTransform(), "kind"))
    table = catalog_in(folder).create_table("shop.sample", SCHEMA, partition_spec=spec)
    for row in ROWS:
        table.append(pa.Table.from_pylist([row], schema=table.schema().as_arrow()))
    return places(table)


def write_null_lists(folder):
    """Makes a table of one row of nulls in a Parquet file that PyIceberg only registers."""
    line = pa.struct([("sku", pa.string()), ("n", pa.int32())])
    schema = pa.schema([("ints", pa.list_(pa.int32())), ("lines", pa.list_(line)), ("by_name", pa.map_(pa.string(), line))])
    table = catalog_in(folder).create_table("shop.sample", schema)
    file = os.path.join(folder, "nulls.parquet")
    pq.write_table(pa.Table.from_pylist([{}], schema=schema), file)
    table.add_files([file])
    return places(table)


def places(table):
    """The table's metadata file and its folder, as a reader opens them."""
    metadata = protocol.path_of(table.metadata_location)
    # For the folder, a reader wants a hint at the version.
    with open(os.path.join(os.path.dirname(metadata), "version-hint.text"), "w", encoding="ascii") as hint:
        hint.write(os.path.basename(metadata).removesuffix(".metadata.json"))
    return {"metadata": metadata, "folder": protocol.path_of(table.location())}


protocol.serve({"write": write, "write_null_lists": write_null_lists})
