"""Spark, whose Iceberg runtime is Java's own: one session writes through JDBC and REST, and judges `storage` warehouses.

Needs nothing of the other readers' packages: it runs on a Python of its own.
"""

import sys
from pathlib import Path

import protocol
import spark_reader
import spark_writer
from pyspark.sql import SparkSession

JARS = Path(sys.executable).parent.parent / "jars"


def first_session():
    return (
        SparkSession.builder.master("local[1]")
        .config("spark.jars", ",".join(map(str, sorted(JARS.glob("*.jar")))))
        # Compiling for a long run costs more than the run.
        .config("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        .config("spark.sql.extensions", "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )


def on_a_session(operations):
    """The first one starts when it is wanted: a process that answers nothing starts no Java."""
    return {name: lambda _call=call, **arguments: _call(first_session(), **arguments) for name, call in operations.items()}


protocol.serve(on_a_session(spark_writer.OPERATIONS) | on_a_session(spark_reader.OPERATIONS))
