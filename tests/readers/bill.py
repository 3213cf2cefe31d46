"""A software bill of materials against CycloneDX's own JSON schema, as its library for Python carries it.

Speaks protocol.py: `problems(bill)` gives what the schema finds wrong with the text, nothing where it fits.
"""

import json

import protocol
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def problems(bill):
    version = SchemaVersion.from_version(json.loads(bill)["specVersion"])
    # Strict: members that the schema does not know are wrong, too.
    found = JsonStrictValidator(version).validate_str(bill, all_errors=True)
    return [f"{error.data.json_path}: {error.data.message[:500]}" for error in found or ()]


protocol.serve({"problems": problems})
