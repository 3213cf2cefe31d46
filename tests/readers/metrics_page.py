"""Reads a page of metrics twice: by the text format's own rules, and with the parser of Prometheus's client for Python.

That parser takes more than the format allows, so the rules are asked here: a HELP and a TYPE once and before the samples of
their family, which stand together; only the escapes that there are; no label and no series twice; counters that end as
they are named; histograms that add up. Then both must have read the same.

Speaks protocol.py: `families(page)` gives by name `{"kind", "help", "samples": [[name, labels, value], ...]}`.
"""

import math
import re

import protocol
from prometheus_client.parser import text_string_to_metric_families

NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL, VALUE = "[a-zA-Z_][a-zA-Z0-9_]*", r'(?:[^"\\]|\\[\\"n])*'
LABELS = rf'{LABEL}="{VALUE}"(?:,{LABEL}="{VALUE}")*'
HELP = re.compile(rf"# HELP ({NAME}) ((?:[^\\]|\\[\\n])*)")
TYPE = re.compile(rf"# TYPE ({NAME}) (counter|gauge|histogram)")
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABELS})\}})? ([-+]?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?)")


def families(page):
    ours, theirs = by_the_rules(page), by_the_parser(page)
    for name in ours.keys() | theirs.keys():
        if ours.get(name) != theirs.get(name):
            raise ValueError(f"{name}: by the rules {ours.get(name)}, by the parser {theirs.get(name)}")
    return theirs


def by_the_parser(page):
    found = {}
    for family in text_string_to_metric_families(page):
        # It knows counters without their ending.
        name = family.name + "_total" if family.type == "counter" else family.name
        if name in found:
            raise ValueError(f"{name}: its samples do not stand together")
        samples = [[sample.name, sample.labels, sample.value] for sample in family.samples]
        found[name] = {"kind": family.type, "help": family.documentation, "samples": samples}
    return found


def by_the_rules(page):
    if not page.endswith("\n"):
        raise ValueError("the last line does not end")
    found, name, family = {}, None, None
    for line in page.split("\n"):
        if not line:
            continue
        if match := HELP.fullmatch(line):
            name = match[1]
            if name in found:
                raise ValueError(f"{name}: a second HELP")
            family = found[name] = {"kind": None, "help": unescaped(match[2]), "samples": []}
        elif match := TYPE.fullmatch(line):
            if match[1] != name or family["kind"]:
                raise ValueError(f"{match[1]}: a TYPE without a HELP before it, or a second one")
            family["kind"] = match[2]
        elif match := SAMPLE.fullmatch(line):
            if family is None or match[1] not in names_of(name, family["kind"]):
                raise ValueError(f"{line}: it is none of {name}")
            labels = re.findall(rf'({LABEL})="({VALUE})"', match[2] or "")
            labels = [(label, unescaped(value)) for label, value in labels]
            if len(dict(labels)) < len(labels):
                raise ValueError(f"{line}: a label twice")
            family["samples"].append([match[1], dict(labels), float(match[3])])
        else:
            raise ValueError(f"{line!r}: no HELP, TYPE or sample")
    for name, family in found.items():
        check(name, family)
    return found


def names_of(name, kind):
    if kind == "histogram":
        return {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    return {name} if kind else set()


def unescaped(text):
    return re.sub(r"\\(.)", lambda escape: "\n" if escape[1] == "n" else escape[1], text)


def check(name, family):
    series = [(sample, frozenset(labels.items())) for sample, labels, _ in family["samples"]]
    if not series or len(set(series)) < len(series):
        raise ValueError(f"{name}: no series, or one twice")
    if (family["kind"] == "counter") != name.endswith("_total"):
        raise ValueError(f"{name}: a {family['kind']} of this name")
    if family["kind"] == "counter" and any(value < 0 for _, _, value in family["samples"]):
        raise ValueError(f"{name}: it is below nothing")
    if family["kind"] == "histogram":
        histograms = {}
        for sample, labels, value in family["samples"]:
            of = frozenset(labels.items() - {("le", labels.get("le"))})
            one = histograms.setdefault(of, {"buckets": []})
            if sample == f"{name}_bucket":
                one["buckets"].append((float(labels["le"]), value))
            elif "le" in labels:
                raise ValueError(f"{name}: {sample} has a `le`")
            else:
                one[sample.removeprefix(name)] = value
        for labels, one in histograms.items():
            ends, counts = zip(*one["buckets"])
            if list(ends) != sorted(set(ends)) or list(counts) != sorted(counts):
                raise ValueError(f"{name} {labels}: its buckets do not rise: {one}")
            if not math.isinf(ends[-1]) or counts[-1] != one["_count"] or "_sum" not in one:
                raise ValueError(f"{name} {labels}: it does not add up: {one}")


protocol.serve({"families": families})
