"""Writes and reads through Java's JDBC, REST and Hadoop catalogs by Spark SQL. A catalog is described as `sql_writer.py` has it."""

import json

sessions = {}


def rest_settings(catalog):
    return {".type": "rest", ".uri": catalog["uri"]}


def hadoop_settings(catalog):
    return {".type": "hadoop", ".warehouse": catalog["warehouse"]}


def jdbc_settings(catalog):
    # JDBC takes the user from its properties.
    uri = catalog["uri"].replace("postgres@", "", 1)
    return {
        ".catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
        ".uri": "jdbc:sqlite:" + uri.removeprefix("sqlite://") if uri.startswith("sqlite:") else "jdbc:" + uri,
        ".jdbc.user": "postgres",
        ".warehouse": catalog["warehouse"],
    }


SETTINGS = {"rest": rest_settings, "hadoop": hadoop_settings}


def sql(spark, catalog, statement):
    """Runs a statement in a session of the catalog's own: its name in the rows is its name in Spark."""
    key = json.dumps(catalog, sort_keys=True)
    if key not in sessions:
        session = sessions[key] = spark.newSession()
        settings = SETTINGS.get(catalog.get("type"), jdbc_settings)(catalog)
        settings |= {"": "org.apache.iceberg.spark.SparkCatalog", ".cache-enabled": "false"}
        for setting, value in settings.items():
            session.conf.set(f"spark.sql.catalog.{catalog['name']}{setting}", value)
    return sessions[key].sql(statement.replace("@", catalog["name"])).collect()


def create(spark, catalog, table):
    sql(spark, catalog, f"CREATE NAMESPACE IF NOT EXISTS @.{table.rsplit('.', 1)[0]}")
    sql(spark, catalog, f"CREATE TABLE @.{table} (id BIGINT NOT NULL, name STRING) USING iceberg")


def append(spark, catalog, table, ids):
    rows = ", ".join(f"({id_}, 'j{id_}')" for id_ in ids)
    sql(spark, catalog, f"INSERT INTO @.{table} VALUES {rows}")


def ids(spark, catalog, table):
    return [row.id for row in sql(spark, catalog, f"SELECT id FROM @.{table} ORDER BY id")]


def tables(spark, catalog, namespace):
    return sorted(row.tableName for row in sql(spark, catalog, f"SHOW TABLES IN @.{namespace}"))


def run(spark, catalog, statement):
    """Any statement, in which `@` is the catalog; its rows as lists of texts."""
    return [[None if value is None else str(value) for value in row] for row in sql(spark, catalog, statement)]


OPERATIONS = {"create": create, "append": append, "ids": ids, "tables": tables, "run": run}
