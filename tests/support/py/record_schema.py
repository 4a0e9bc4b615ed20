"""Records of the tap before an independent validator of JSON Schema: the schema's file is the argument, a record is a line.

Prints `type verdict` for each record that fits, and ends at the first that does not.
"""

import json
import sys

import jsonschema

schema = json.load(open(sys.argv[1], encoding="utf-8"))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
for line in sys.stdin:
    record = json.loads(line)
    fault = jsonschema.exceptions.best_match(validator.iter_errors(record))
    if fault is not None:
        sys.exit(f"{fault.json_path}: {fault.message}\n{line}")
    print(record["type"], record.get("verdict", "-"))
