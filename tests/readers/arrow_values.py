"""The one way in which every reader writes the values of Arrow columns as JSON."""

import base64
import uuid

import protocol
import pyarrow as pa
import pyarrow.compute as pc


def rows(table):
    """An Arrow table as a list of JSON objects, every value exact."""
    columns = {name: values(table.column(name)) for name in table.column_names}
    return [dict(zip(columns, row)) for row in zip(*columns.values())] if columns else []


def values(array):
    """An Arrow array as JSON values.

    Booleans and integers stay themselves; a decimal, date, time, timestamp, uuid is its ISO or plain text; bytes are
    base64; a map is a list of pairs; a float that JSON has no number for is its name.
    """
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in values(chunk)]
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        texts = values(array.storage)
        if "uuid" in kind.extension_name:
            return [None if text is None else str(uuid.UUID(bytes=base64.b64decode(text))) for text in texts]
        return texts
    if pa.types.is_dictionary(kind):
        return values(array.dictionary_decode())
    if pa.types.is_struct(kind):
        fields = [values(field) for field in array.flatten()]
        names = [field.name for field in kind]
        present = array.is_valid().to_pylist()
        return [dict(zip(names, [f[i] for f in fields])) if there else None for i, there in enumerate(present)]
    if pa.types.is_map(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [element_values(array[i], kind) for i in range(len(array))]
    convert = converter(kind)
    plain = raw(array, kind).to_pylist()
    return [None if value is None else convert(value) for value in plain]


def element_values(scalar, kind):
    if not scalar.is_valid:
        return None
    elements = scalar.values
    if pa.types.is_map(kind):
        keys, items = elements.field(0), elements.field(1)
        return [list(pair) for pair in zip(values(keys), values(items))]
    return values(elements)


def raw(array, kind):
    """Time types as their integers: Python's own types hold neither nanoseconds nor every year."""
    if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        return array.cast(pa.int64())
    if pa.types.is_time32(kind):
        return array.cast(pa.int32())
    return array


def converter(kind):
    if pa.types.is_timestamp(kind):
        zone = "Z" if kind.tz else ""
        return lambda ticks: protocol.timestamp_text(ticks, kind.unit) + zone
    if pa.types.is_time(kind):
        return lambda ticks: protocol.time_text(ticks, kind.unit)
    if pa.types.is_date(kind):
        return lambda date: date.isoformat()
    if pa.types.is_decimal(kind):
        return lambda number: format(number, "f")
    if pa.types.is_floating(kind):
        return protocol.float_value
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return lambda data: base64.b64encode(data).decode()
    return lambda value: value


def summaries(table):
    """For each column of an Arrow table: values, nulls, smallest, largest. A NaN is larger than any number."""
    return {name: summary(table.column(name)) for name in table.column_names}


def summary(column):
    column = column.combine_chunks()
    result = {"values": len(column) - column.null_count, "nulls": column.null_count, "min": None, "max": None}
    if pa.types.is_nested(column.type):
        return result
    kind, plain = column.type, column.drop_null()
    if isinstance(kind, pa.BaseExtensionType):
        plain = plain.storage
    if pa.types.is_fixed_size_binary(plain.type):
        plain = plain.cast(pa.binary())
    if len(plain) == 0:
        return result
    # Sorting puts NaN last, as other engines order it; min_max would skip it.
    order = pc.array_sort_indices(plain)
    ends = plain.take(pa.array([order[0].as_py(), order[len(order) - 1].as_py()]))
    if isinstance(kind, pa.BaseExtensionType):
        ends = pa.ExtensionArray.from_storage(kind, ends.cast(kind.storage_type))
    result["min"], result["max"] = values(ends)
    return result
