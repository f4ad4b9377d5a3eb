"""Reads metrics as Prometheus' own Python client does, and writes them as JSON: a list of name, kind, labels and value."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

found = [
    {"name": sample.name, "kind": family.type, "labels": sample.labels, "value": sample.value}
    for family in text_string_to_metric_families(sys.stdin.read())
    for sample in family.samples
]
json.dump(found, sys.stdout)
