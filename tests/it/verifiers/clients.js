// Generates the types of a client: clients.js SCHEMA DIRECTORY writes CallEnded.ts
// and its JavaScript, and a class of Java for each object.
const { mkdirSync, readFileSync, writeFileSync } = require("node:fs");
const { join } = require("node:path");
const { InputData, JSONSchemaInput, FetchingJSONSchemaStore, quicktypeMultiFile } = require("quicktype-core");
const ts = require("typescript");

async function generated(schema, lang, rendererOptions) {
    const input = new JSONSchemaInput(new FetchingJSONSchemaStore());
    await input.addSource({ name: "CallEnded", schema });
    const inputData = new InputData();
    inputData.addInput(input);
    return quicktypeMultiFile({ inputData, lang, rendererOptions });
}

async function main(schema, directory) {
    const files = await generated(schema, "java", { "just-types": "true", "acronym-style": "camel", package: "client" });
    mkdirSync(join(directory, "client"), { recursive: true });
    for (const [name, { lines }] of files) {
        writeFileSync(join(directory, "client", name), lines.join("\n"));
    }
    const [[, { lines }]] = await generated(schema, "typescript", {});
    const file = join(directory, "CallEnded.ts");
    writeFileSync(file, lines.join("\n"));
    const options = { strict: true, noEmitOnError: true, module: ts.ModuleKind.CommonJS, outDir: directory };
    const program = ts.createProgram([file], { ...options, target: ts.ScriptTarget.ES2020 });
    const mistakes = [...ts.getPreEmitDiagnostics(program), ...program.emit().diagnostics];
    for (const mistake of mistakes) console.error(ts.flattenDiagnosticMessageText(mistake.messageText, "\n"));
    process.exitCode = mistakes.length === 0 ? 0 : 1;
}

main(readFileSync(process.argv[2], "utf8"), process.argv[3]);
