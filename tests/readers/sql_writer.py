"""Writes and reads through PyIceberg's SQL and REST catalogs, whose tables landfast shares.

A catalog is `{"uri": …, "name": …, "warehouse": …}` with the URI as landfast has it; a server has `"type": "rest"`.
"""

import datetime
import logging

import protocol
import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform, TruncateTransform
from pyiceberg.types import LongType, NestedField, StringType, TimestampType

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=True),
    NestedField(2, "name", StringType(), required=False),
)


def open_catalog(catalog):
    if catalog.get("type") == "rest":
        return RestCatalog(catalog["name"], uri=catalog["uri"])
    # SQLAlchemy names the driver, and wants four slashes before an absolute path.
    uri = catalog["uri"].replace("postgresql://", "postgresql+psycopg2://", 1)
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        uri = uri.replace("sqlite:///", "sqlite:////", 1)
    return SqlCatalog(catalog["name"], uri=uri, warehouse=catalog["warehouse"])


def create(catalog, table, schema=SCHEMA):
    opened = open_catalog(catalog)
    opened.create_namespace_if_not_exists(table.rsplit(".", 1)[0])
    opened.create_table(table, schema)


def create_other(catalog, table):
    create(catalog, table, Schema(NestedField(1, "id", StringType(), required=True)))


def create_evolved(catalog, table, by_name):
    """Makes a table of version 1 with a row, changes its spec, order and schema, and upgrades it to version 2.

    Its spec: identity of `name`, called `by_name`, that became void; day, bucket, truncate. Its schema: `note` added, `at` renamed to `time`.
    """
    opened = open_catalog(catalog)
    opened.create_namespace_if_not_exists(table.rsplit(".", 1)[0])
    columns = Schema(*SCHEMA.fields, NestedField(3, "at", TimestampType(), required=False))
    made = opened.create_table(
        table,
        columns,
        partition_spec=PartitionSpec(PartitionField(2, 1000, IdentityTransform(), by_name)),
        sort_order=SortOrder(SortField(1, IdentityTransform())),
        properties={"format-version": "1"},
    )
    row = {"id": 1, "name": "p1", "at": datetime.datetime(2026, 1, 1, 12)}
    made.append(pa.Table.from_pylist([row], schema=made.schema().as_arrow()))
    with made.update_spec() as spec:
        spec.remove_field(by_name)
        spec.add_field("at", DayTransform(), "at_day")
    with made.transaction() as transaction:
        transaction.upgrade_table_version(2)
    with made.update_spec() as spec:
        spec.add_field("id", BucketTransform(4), "id_bucket")
        spec.add_field("name", TruncateTransform(1), "name_trunc")
    with made.update_schema() as schema:
        schema.add_column("note", StringType())
        schema.rename_column("at", "time")


def append(catalog, table, ids):
    opened = open_catalog(catalog).load_table(table)
    opened.append(rows_of(opened, ids))


def rows_of(opened, ids):
    rows = [{"id": id_, "name": f"p{id_}"} for id_ in ids]
    return pa.Table.from_pylist(rows, schema=opened.schema().as_arrow())


def drop(catalog, table):
    open_catalog(catalog).drop_table(table)


def alter(catalog, table, properties, removed):
    with open_catalog(catalog).load_table(table).transaction() as transaction:
        if properties:
            transaction.set_properties(properties)
        if removed:
            transaction.remove_properties(*removed)


def change_column(catalog, table, column, required):
    with open_catalog(catalog).load_table(table).update_schema(allow_incompatible_changes=True) as schema:
        schema.update_column(column, required=required)


def properties(catalog, table):
    return open_catalog(catalog).load_table(table).properties


def delete(catalog, table, where):
    open_catalog(catalog).load_table(table).delete(where)


def overwrite(catalog, table, where, ids):
    opened = open_catalog(catalog).load_table(table)
    opened.overwrite(rows_of(opened, ids), overwrite_filter=where)


def state(catalog, table):
    """The metadata file of the newest state, and its snapshot."""
    opened = open_catalog(catalog).load_table(table)
    snapshot = opened.current_snapshot()
    return {"location": opened.metadata_location, "snapshot_id": snapshot.snapshot_id if snapshot else None}


def ids(catalog, table):
    rows = open_catalog(catalog).load_table(table).scan(selected_fields=("id",)).to_arrow()
    return sorted(rows.column("id").to_pylist())


def tables(catalog, namespace):
    return sorted(name for *_, name in open_catalog(catalog).list_tables(namespace))


# That a database of version 0 stays one is what the tests want.
logging.getLogger("pyiceberg").setLevel(logging.ERROR)
protocol.serve(
    {
        "create": create,
        "create_other": create_other,
        "create_evolved": create_evolved,
        "drop": drop,
        "alter": alter,
        "change_column": change_column,
        "properties": properties,
        "append": append,
        "delete": delete,
        "overwrite": overwrite,
        "state": state,
        "ids": ids,
        "tables": tables,
    }
)
