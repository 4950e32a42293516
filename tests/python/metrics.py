"""Reads metrics as Prometheus' own client does: metrics.py FILE

Prints a line per sample: type, name, labels and value.
"""

import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

with open(sys.argv[1], encoding="utf-8") as file:
    text = file.read()
for family in text_string_to_metric_families(text):
    for sample in family.samples:
        labels = sorted(sample.labels.items())
        print(family.type, sample.name, labels, sample.value)
