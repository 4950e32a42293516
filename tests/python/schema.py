"""Checks configuration files against the JSON schema: schema.py SCHEMA FILE...

Prints a line per file: `fits`, or the path of what does not fit and why.
"""

import json
import sys
import tomllib

import jsonschema

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
for path in sys.argv[2:]:
    with open(path, "rb") as file:
        config = tomllib.load(file)
    # Not `json_path`: how it writes a name with a hyphen depends on the version.
    errors = [
        f"/{'/'.join(map(str, error.absolute_path))}: {error.validator}"
        for error in validator.iter_errors(config)
    ]
    if errors:
        print("; ".join(sorted(errors)))
    else:
        print("fits")
