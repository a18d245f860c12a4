"""Validates JSON values against a JSON schema, for the tests.

validate.py SCHEMA   in:  [value, …] on standard input
                     out: [[error, …], …] on standard output, one list of errors for each value
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jsonschema.validators import validator_for


def main() -> None:
    schema = json.loads(Path(sys.argv[1]).read_text())
    validator = validator_for(schema)
    validator.check_schema(schema)
    errors = [
        [f"{error.json_path}: {error.message}" for error in validator(schema).iter_errors(value)]
        for value in json.load(sys.stdin)
    ]
    json.dump(errors, sys.stdout)


if __name__ == "__main__":
    main()
