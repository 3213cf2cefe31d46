"""Requests held against the discovery documents of Google's APIs, as its own Python client carries them.

Speaks protocol.py: `check(api, requests)` gives what is wrong with each of `{"method", "path", "body"}`, as texts.
"""

import functools
import importlib.util
import json
import pathlib
import re
import urllib.parse

import protocol


@functools.cache
def document(api):
    # The package alone, without what it imports.
    package = pathlib.Path(importlib.util.find_spec("googleapiclient").origin).parent
    return json.loads((package / "discovery_cache" / "documents" / f"{api}.json").read_text())


def methods(node):
    yield from node.get("methods", {}).values()
    for resource in node.get("resources", {}).values():
        yield from methods(resource)


def pattern_of(template):
    """A path of the document as a pattern: each variable is one segment, slashes in it are escaped."""
    parts = re.split(r"\{\+?[A-Za-z]+\}", template)
    return re.compile("[^/]+".join(map(re.escape, parts)) + "$")


def check(api, requests):
    return [problem for request in requests for problem in problems(document(api), request)]


def problems(api, request):
    path, _, query = request["path"].lstrip("/").partition("?")
    told = f"{request['method']} {request['path']}"
    base = api["servicePath"]
    if not path.startswith(base):
        return [f"{told}: the path begins with {base}"]
    rest = path.removeprefix(base)
    found = [
        method
        for method in methods(api)
        if method["httpMethod"] == request["method"]
        and pattern_of(method.get("flatPath", method["path"])).match(rest)
    ]
    if len(found) != 1:
        return [f"{told}: {len(found)} methods of the document have this path"]
    wrong = list(query_problems(api, found[0], urllib.parse.parse_qs(query, keep_blank_values=True)))
    body, takes = request.get("body"), found[0].get("request")
    if body is not None and takes is None:
        wrong.append("it takes no body")
    elif body is not None:
        wrong.extend(value_problems(api, api["schemas"][takes["$ref"]], body, "body"))
    return [f"{told}: {problem}" for problem in wrong]


def query_problems(api, method, query):
    known = {
        name: parameter
        for name, parameter in method.get("parameters", {}).items()
        if parameter["location"] == "query"
    }
    for name, parameter in known.items():
        if parameter.get("required") and name not in query:
            yield f"`{name}` is missing"
    for name, values in query.items():
        parameter = known.get(name) or api["parameters"].get(name)
        if parameter is None:
            yield f"it has no parameter `{name}`"
            continue
        if len(values) > 1 and not parameter.get("repeated"):
            yield f"`{name}` stands {len(values)} times"
        for value in values:
            if not is_text_of(parameter, value):
                yield f"`{name}` is not {value!r}"


def is_text_of(parameter, value):
    if "enum" in parameter and value not in parameter["enum"]:
        return False
    kind = parameter["type"]
    if kind == "boolean":
        return value in ("true", "false")
    if kind == "integer" or parameter.get("format") in ("int64", "uint64"):
        return re.fullmatch(r"-?\d+", value) is not None
    return kind == "string"


def value_problems(api, schema, value, place):
    if "$ref" in schema:
        schema = api["schemas"][schema["$ref"]]
    kind = schema["type"]
    # Null takes a member away.
    if value is None or kind == "any":
        return
    if kind == "object":
        yield from object_problems(api, schema, value, place)
    elif kind == "array":
        if not isinstance(value, list):
            yield f"{place} is no list"
            return
        for index, item in enumerate(value):
            yield from value_problems(api, schema["items"], item, f"{place}[{index}]")
    elif not is_scalar_of(schema, value):
        yield f"{place} is no {schema.get('format', kind)}: {value!r}"


def object_problems(api, schema, value, place):
    if not isinstance(value, dict):
        yield f"{place} is no object"
        return
    members, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, inner in value.items():
        member = members.get(name, others)
        if member is None:
            yield f"{place} has no member `{name}`"
        elif member.get("readOnly"):
            yield f"{place}.{name} is for the answer alone"
        else:
            yield from value_problems(api, member, inner, f"{place}.{name}")


def is_scalar_of(schema, value):
    if schema.get("enum") and value not in schema["enum"]:
        return False
    kind = schema["type"]
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("integer", "number"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if not isinstance(value, str):
        return False
    return schema.get("format") not in ("int64", "uint64") or re.fullmatch(r"-?\d+", value) is not None


if __name__ == "__main__":
    protocol.serve({"check": check})
