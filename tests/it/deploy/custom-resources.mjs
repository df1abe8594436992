// Validates the resources of the Prometheus Operator and of KEDA in a JSON array on
// standard input; exits 1 with the first that is not valid.
import * as monitoring from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
import * as keda from "@kubernetes-models/keda/keda.sh/v1alpha1";
import { readFileSync } from "node:fs";

for (const resource of JSON.parse(readFileSync(0, "utf8"))) {
  new { ...monitoring, ...keda }[resource.kind](resource).validate();
}
