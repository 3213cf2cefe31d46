"""Writes and reads through Java's JDBC catalog by Spark SQL. Speaks as `sql_writer.py` does.

Needs nothing of the other readers' packages: it runs on a Python of its own.
"""

import json
import os
import sys
import traceback
from pathlib import Path

from pyspark.sql import SparkSession

JARS = Path(sys.executable).parent.parent / "jars"
sessions = {}


def first_session():
    return (
        SparkSession.builder.master("local[1]")
        .config("spark.jars", ",".join(map(str, sorted(JARS.glob("*.jar")))))
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )


def sql(catalog, statement):
    """Runs a statement in a session of the catalog's own: its name in the rows is its name in Spark."""
    key = json.dumps(catalog, sort_keys=True)
    if key not in sessions:
        session = sessions[key] = first_session().newSession()
        # JDBC takes the user from its properties.
        uri = catalog["uri"].replace("postgres@", "", 1)
        settings = {
            "": "org.apache.iceberg.spark.SparkCatalog",
            ".catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
            ".uri": "jdbc:sqlite:" + uri.removeprefix("sqlite://") if uri.startswith("sqlite:") else "jdbc:" + uri,
            ".jdbc.user": "postgres",
            ".warehouse": catalog["warehouse"],
            ".cache-enabled": "false",
        }
        for setting, value in settings.items():
            session.conf.set(f"spark.sql.catalog.{catalog['name']}{setting}", value)
    return sessions[key].sql(statement.replace("@", catalog["name"], 1)).collect()


def create(catalog, table):
    sql(catalog, f"CREATE NAMESPACE IF NOT EXISTS @.{table.rsplit('.', 1)[0]}")
    sql(catalog, f"CREATE TABLE @.{table} (id BIGINT NOT NULL, name STRING) USING iceberg")


def append(catalog, table, ids):
    rows = ", ".join(f"({id_}, 'j{id_}')" for id_ in ids)
    sql(catalog, f"INSERT INTO @.{table} VALUES {rows}")


def ids(catalog, table):
    return [row.id for row in sql(catalog, f"SELECT id FROM @.{table} ORDER BY id")]


def tables(catalog, namespace):
    return sorted(row.tableName for row in sql(catalog, f"SHOW TABLES IN @.{namespace}"))


def serve(operations):
    """As `protocol.serve`."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        try:
            arguments = json.loads(line)
            answer = {"ok": operations[arguments.pop("call")](**arguments)}
        except Exception:  # The test fails with it; the engine lives on.
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


serve({"create": create, "append": append, "ids": ids, "tables": tables})
