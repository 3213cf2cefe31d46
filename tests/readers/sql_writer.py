"""Writes and reads through PyIceberg's SQL and REST catalogs, whose tables landfast shares.

A catalog is `{"uri": …, "name": …, "warehouse": …}` with the URI as landfast has it; a server has `"type": "rest"`.
"""

import logging

import protocol
import pyarrow as pa
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType

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


def create(catalog, table):
    opened = open_catalog(catalog)
    opened.create_namespace_if_not_exists(table.rsplit(".", 1)[0])
    opened.create_table(table, SCHEMA)


def append(catalog, table, ids):
    opened = open_catalog(catalog).load_table(table)
    rows = [{"id": id_, "name": f"p{id_}"} for id_ in ids]
    opened.append(pa.Table.from_pylist(rows, schema=opened.schema().as_arrow()))


def ids(catalog, table):
    rows = open_catalog(catalog).load_table(table).scan(selected_fields=("id",)).to_arrow()
    return sorted(rows.column("id").to_pylist())


def tables(catalog, namespace):
    return sorted(name for *_, name in open_catalog(catalog).list_tables(namespace))


# That a database of version 0 stays one is what the tests want.
logging.getLogger("pyiceberg").setLevel(logging.ERROR)
protocol.serve({"create": create, "append": append, "ids": ids, "tables": tables})
