// Checks a schema by ajv in its strict mode, and by a validator of OpenAPI
// documents: validate.js SCHEMA [OPENAPI]. Reads bodies from standard input, one a
// line. Prints whether each is valid, and then the version of the document. A format
// is an annotation, as JSON Schema 2020-12 has it.
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const { pathToFileURL } = require("node:url");
const Ajv = require("ajv/dist/2020").default;

const [schema, openapi] = process.argv.slice(2);
const ajv = new Ajv({ strict: true, validateFormats: false });
const fits = ajv.compile(JSON.parse(readFileSync(schema, "utf8")));
for (const line of readFileSync(0, "utf8").trim().split("\n")) {
    console.log(fits(JSON.parse(line)));
}
if (openapi) checkOpenapi();

function checkOpenapi() {
    const library = join(process.env.NODE_PATH, "@seriousme/openapi-schema-validator/index.js");
    import(pathToFileURL(library)).then(async ({ Validator }) => {
        const validator = new Validator();
        const result = await validator.validate(openapi);
        if (!result.valid) throw new Error(JSON.stringify(result.errors));
        console.log(validator.version);
    });
}
