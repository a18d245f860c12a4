"""Checks JSON values against a JSON schema, for the tests.

    validate.py SCHEMA   [value, …] on standard input  ->  [[what is wrong with it, …], …] on standard output
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
    faults = [[f"{fault.json_path}: {fault.message}" for fault in validator(schema).iter_errors(value)] for value in json.load(sys.stdin)]
    json.dump(faults, sys.stdout)


if __name__ == "__main__":
    main()
