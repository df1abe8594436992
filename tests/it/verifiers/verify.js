// Verifies requests, one JSON object a line, with the official library: prints
// for each what the body says its tenant is, or the error's name.
const { Webhook } = require("standardwebhooks");

for (const line of require("fs").readFileSync(0, "utf8").trim().split("\n")) {
    const request = JSON.parse(line);
    try {
        const body = new Webhook(request.secret).verify(request.body, request.headers);
        console.log(body.data.tenantId);
    } catch (error) {
        console.log(error.name);
    }
}
