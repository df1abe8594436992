# Prints a Pod with the template of the object on standard input, or of the first object
# of a list.
import json
import sys

read = json.load(sys.stdin)
owner = read["items"][0] if read["kind"].endswith("List") else read
pod = {"apiVersion": "v1", "kind": "Pod", **owner["spec"]["template"]}
pod["metadata"] = {"name": "pod", "labels": pod["metadata"]["labels"]}
print(json.dumps(pod))
