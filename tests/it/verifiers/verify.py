"""Verifies requests, one JSON object a line, with the official library: prints
for each what the body says its tenant is, or the error's name."""

import json
import sys

from standardwebhooks import Webhook

for line in sys.stdin:
    request = json.loads(line)
    try:
        body = Webhook(request["secret"]).verify(request["body"], request["headers"])
        print(body["data"]["tenantId"])
    except Exception as error:
        print(type(error).__name__)
