"""Reads `storage` warehouses as Hadoop catalogs: rows by Spark SQL, what manifests say by Java's own classes."""

import base64
import datetime
import json
import struct
from pathlib import Path

import protocol

COMPARISONS = {
    "=": "equal",
    "!=": "notEqual",
    "<": "lessThan",
    "<=": "lessThanOrEqual",
    ">": "greaterThan",
    ">=": "greaterThanOrEqual",
}
# What Spark has no literal or no Python value for, as a number or text of the same order.
EXACT = {"date": "unix_date({})", "timestamp": "unix_micros({})", "timestamp_ntz": "unix_micros(cast({} as timestamp))"}
sessions = {}


class Table:
    """The table of a metadata file, in a session whose catalog `lake` is the warehouse around it."""

    def __init__(self, spark, location):
        path = Path(protocol.path_of(location))
        folder = path.parent.parent if path.suffix == ".json" else path
        warehouse = folder.parent.parent
        if warehouse not in sessions:
            session = sessions[warehouse] = spark.newSession()
            for name, place in (("lake", warehouse), ("java", warehouse / "written-by-java")):
                session.conf.set(f"spark.sql.catalog.{name}", "org.apache.iceberg.spark.SparkCatalog")
                session.conf.set(f"spark.sql.catalog.{name}.type", "hadoop")
                session.conf.set(f"spark.sql.catalog.{name}.warehouse", f"file://{place}")
                session.conf.set(f"spark.sql.catalog.{name}.cache-enabled", "false")
        self.session = sessions[warehouse]
        # Iceberg's own classes look catalogs up in the active session, not in the one they are given.
        self.session._jvm.org.apache.spark.sql.SparkSession.setActiveSession(self.session._jsparkSession)
        self.iceberg = self.session._jvm.org.apache.iceberg
        self.levels = [folder.parent.name, folder.name]

    def name(self, catalog="lake", metadata_table=None):
        levels = [catalog, *self.levels, *([metadata_table] if metadata_table else [])]
        return ".".join(f"`{level}`" for level in levels)

    def sql(self, query):
        return self.session.sql(query).collect()

    def opened(self, catalog="lake"):
        return self.iceberg.spark.Spark3Util.loadIcebergTable(self.session._jsparkSession, self.name(catalog))

    def columns(self):
        """Of each column that is not nested, the name and Spark's type."""
        kinds = self.session.table(self.name()).dtypes
        return {name: kind for name, kind in kinds if not kind.startswith(("struct", "array", "map"))}


def quoted(column):
    return ".".join(f"`{part}`" for part in column.split("."))


def count(spark, location):
    table = Table(spark, location)
    return table.sql(f"SELECT count(*) FROM {table.name()}")[0][0]


def columns(spark, location):
    table = Table(spark, location)
    kinds = table.columns()
    ends = [
        EXACT.get(kind, "{}").format(f"{end}({quoted(name)})") for name, kind in kinds.items() for end in ("min", "max")
    ]
    counts = [f"count({quoted(name)})" for name in kinds]
    total, *found = table.sql(f"SELECT {', '.join(['count(*)', *counts, *ends])} FROM {table.name()}")[0]
    values, ends = found[: len(kinds)], found[len(kinds) :]
    return {
        name: {
            "values": values[at],
            "nulls": total - values[at],
            "min": value(kind, ends[2 * at]),
            "max": value(kind, ends[2 * at + 1]),
        }
        for at, (name, kind) in enumerate(kinds.items())
    }


def value(kind, found):
    """A value of Spark as `arrow_values.values` writes it."""
    if found is None:
        return None
    if kind == "date":
        return (protocol.EPOCH + datetime.timedelta(days=found)).isoformat()
    if kind.startswith("timestamp"):
        return protocol.timestamp_text(found, "us") + ("Z" if kind == "timestamp" else "")
    if kind.startswith("decimal"):
        return format(found, "f")
    if kind in ("float", "double"):
        return protocol.float_value(found)
    return base64.b64encode(found).decode() if kind == "binary" else found


def sums(spark, location, columns):
    table = Table(spark, location)
    wanted = ", ".join(f"cast(sum({quoted(column)}) AS string)" for column in columns)
    return list(table.sql(f"SELECT {wanted} FROM {table.name()}")[0])


def count_where(spark, location, column, op, literal):
    """Counts the rows that match, and the data files that Java plans for them."""
    table = Table(spark, location)
    kind = table.session.table(table.name()).select(quoted(column)).dtypes[0][1]
    text = str(literal).replace("\\", "\\\\").replace("'", "\\'")
    query = f"SELECT count(*) FROM {table.name()} WHERE {quoted(column)} {op} cast('{text}' AS {kind})"
    expression = getattr(table.iceberg.expressions.Expressions, COMPARISONS[op])(column, literal)
    planned = list(all_of(table.opened().newScan().filter(expression).planFiles()))
    return {"rows": table.sql(query)[0][0], "planned_files": len(planned)}


def inspect(spark, location, what):
    """One of Spark's metadata tables: `files`, `partitions`, `snapshots` ..."""
    table = Table(spark, location)
    query = f"SELECT to_json(struct(*), map('ignoreNullFields', 'false')) FROM {table.name(metadata_table=what)}"
    return [json.loads(row[0]) for row in table.sql(query)]


def files(spark, location):
    """As `files` of `pyiceberg_reader.py`, by Java's scan."""
    table = Table(spark, location)
    return file_summaries(table, table.opened())


def written_by_java(spark, location):
    """Has Spark write the rows into a table of Java's own with the same schema, partitions and properties: its `files`."""
    table = Table(spark, location)
    ours = table.opened()
    catalog = table.iceberg.spark.Spark3Util.loadIcebergCatalog(table.session._jsparkSession, "java")
    identifier = table.iceberg.catalog.TableIdentifier.parse(".".join(table.levels))
    catalog.createTable(identifier, ours.schema(), ours.spec(), ours.properties())
    table.sql(f"INSERT INTO {table.name('java')} SELECT * FROM {table.name()}")
    return file_summaries(table, table.opened("java"))


def all_of(closeable):
    """Every item of one of Java's closeable iterables."""
    items = closeable.iterator()
    while items.hasNext():
        yield items.next()
    closeable.close()


def file_summaries(table, opened):
    tasks = all_of(opened.newScan().includeColumnStats().planFiles())
    # Each call of Java's costs: a column's name and type are asked for once.
    schema, columns = opened.schema(), {}

    def column(field_id):
        if field_id not in columns:
            kind = schema.findType(field_id)
            columns[field_id] = (schema.findColumnName(field_id), kind)
        return columns[field_id]

    return [file_summary(table.iceberg, opened, column, task.file()) for task in tasks]


def file_summary(iceberg, opened, column, file):
    spec = opened.specs()[file.specId()]

    def by_name(metrics, convert=lambda _kind, number: number):
        named = ((column(entry.getKey()), entry.getValue()) for entry in (metrics.entrySet() if metrics else ()))
        return {name: convert(kind, found) for (name, kind), found in named}

    def raw(_kind, buffer):
        return bytes(iceberg.util.ByteBuffers.toByteArray(buffer)).hex()

    def bound(kind, buffer):
        return plain(iceberg, kind, iceberg.types.Conversions.fromByteBuffer(kind, buffer))

    partition = file.partition()
    fields = spec.partitionType().fields()
    return {
        "content": file.content().toString().lower(),
        "file_path": file.location(),
        "file_format": file.format().toString().lower(),
        "spec_id": file.specId(),
        "partition": [
            partition_value(iceberg, fields[at].type(), partition.get(at)) for at in range(partition.size())
        ],
        "partition_path": spec.partitionToPath(partition),
        "record_count": file.recordCount(),
        "file_size_in_bytes": file.fileSizeInBytes(),
        "column_sizes": by_name(file.columnSizes()),
        "value_counts": by_name(file.valueCounts()),
        "null_value_counts": by_name(file.nullValueCounts()),
        "nan_value_counts": by_name(file.nanValueCounts()),
        "lower_bounds": by_name(file.lowerBounds(), bound),
        "upper_bounds": by_name(file.upperBounds(), bound),
        "lower_bytes": by_name(file.lowerBounds(), raw),
        "upper_bytes": by_name(file.upperBounds(), raw),
        "split_offsets": list(file.splitOffsets()) if file.splitOffsets() else None,
        "sort_order_id": file.sortOrderId(),
    }


def plain(iceberg, kind, found):
    """A value of Java's as `arrow_values.values` writes it."""
    name = kind.typeId().toString().lower()
    if name == "date":
        return (protocol.EPOCH + datetime.timedelta(days=found)).isoformat()
    if name == "time":
        return protocol.time_text(found, "us")
    if name == "timestamp":
        return protocol.timestamp_text(found, "us") + ("Z" if kind.shouldAdjustToUTC() else "")
    if name == "float":
        # Java's shortest text of a float is not that of the double it widens to.
        return protocol.float_value(struct.unpack("f", struct.pack("f", found))[0])
    if name == "double":
        return protocol.float_value(found)
    return partition_value(iceberg, kind, found)


def partition_value(iceberg, kind, found):
    """As `plain`, with times as the numbers that manifests hold."""
    name = kind.typeId().toString().lower()
    if found is None or name in ("boolean", "integer", "long", "date", "time", "timestamp"):
        return found
    if name in ("binary", "fixed"):
        return base64.b64encode(bytes(iceberg.util.ByteBuffers.toByteArray(found))).decode()
    if name == "decimal":
        return format(found, "f")
    return found if isinstance(found, str) else found.toString()


OPERATIONS = {
    "count": count,
    "columns": columns,
    "sums": sums,
    "count_where": count_where,
    "inspect": inspect,
    "files": files,
    "written_by_java": written_by_java,
}
