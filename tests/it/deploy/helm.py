# Renders deploy/helm with the values on standard input, as `helm template` does, and
# lints it. Prints JSON: the objects, and the warnings of the linter. Exits 1 with the
# reason where Helm refuses the values.
import json
import sys

import helm_python as helm
import yaml

SEVERITY_WARNING = 2

path, values = sys.argv[1], json.load(sys.stdin)
try:
    with helm.Chart.load(path) as chart:
        files = chart.render(values, name="ringback", namespace="ringback")
except helm.HelmError as error:
    sys.exit(str(error))
found = helm.lint(path)
wrong = [m for m in found["messages"] if m["severity"] >= SEVERITY_WARNING]
objects = [
    document
    for name, text in files.items()
    if name.endswith(".yaml")
    for document in yaml.safe_load_all(text)
    if document
]
print(json.dumps({"objects": objects, "lint": wrong + found["errors"]}))
