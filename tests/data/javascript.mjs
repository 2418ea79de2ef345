// The local service, driven by the JavaScript SDK: prints as JSON what it saw, for tests/test_local_javascript.py to check.
//
//     node javascript.mjs SDK_FOLDER URL SCRATCH_FOLDER

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, baseUrl, scratch] = process.argv.slice(2);
const entry = join(folder, "node_modules", "@google", "genai", "dist", "node", "index.mjs");
const { GoogleGenAI } = await import(pathToFileURL(entry));

const apiKey = "a-key-of-enough-letters";
const ai = new GoogleGenAI({ apiKey, httpOptions: { baseUrl } }); // under /v1beta, as it does by itself
const model = "gemini-nano-banana-2.1";
const seen = { version: JSON.parse(readFileSync(join(folder, "node_modules", "@google", "genai", "package.json"))).version };

const all = async (pager) => {
  const found = [];
  for await (const one of await pager) found.push(one.name);
  return found;
};
const ended = async (name) => {
  for (;;) {
    const job = await ai.batches.get({ name });
    if (!["JOB_STATE_PENDING", "JOB_STATE_RUNNING"].includes(job.state)) return job;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
const refused = async (call) => {
  try {
    await call();
  } catch (error) {
    return { status: error.status, message: error.message };
  }
  return null;
};
const kinds = (response) =>
  response.candidates[0].content.parts.map((part) => (part.thought ? "thought " : "") + (part.text ? "text" : "image"));

// A file, and a batch over it.
const lines = ["a", "b", "c"].map((key) => {
  const request = { contents: [{ parts: [{ text: key === "c" ? "LOCAL:ERROR" : `owl ${key}` }] }] };
  return JSON.stringify({ key, request });
});
const input = join(scratch, "in.jsonl");
writeFileSync(input, lines.join("\n") + "\n");
const file = await ai.files.upload({ file: input, config: { mimeType: "application/jsonl", displayName: "owls" } });
seen.file = { ...file };
seen.fileShown = (await ai.files.get({ name: file.name })).sha256Hash === file.sha256Hash;
const large = new Blob([new Uint8Array(9 << 20)], { type: "text/plain" });
seen.large = (await ai.files.upload({ file: large, config: { mimeType: "text/plain" } })).sizeBytes;

const created = await ai.batches.create({ model, src: file.name, config: { displayName: "owls" } });
seen.created = { name: created.name, state: created.state, displayName: created.displayName };
const done = await ended(created.name);
seen.done = { state: done.state, fileName: done.dest.fileName };
const output = join(scratch, "out.jsonl");
await ai.files.download({ file: done.dest.fileName, downloadPath: output });
seen.answers = readFileSync(output, "utf8").trimEnd().split("\n").map((line) => {
  const { key, response, error } = JSON.parse(line);
  return { key, finishReason: response?.candidates[0].finishReason, code: error?.code };
});

// Requests in place.
const src = ["x", "y"].map((key) => ({ contents: [{ parts: [{ text: key }], role: "user" }], metadata: { key } }));
const inlined = await ended((await ai.batches.create({ model, src })).name);
seen.inlined = inlined.dest.inlinedResponses.map((one) => ({ key: one.metadata?.key, kinds: kinds(one.response) }));

// Lists, cancel, delete.
seen.batches = (await all(ai.batches.list({ config: { pageSize: 1 } }))).length;
seen.files = (await all(ai.files.list({ config: { pageSize: 1 } }))).length;
await ai.batches.cancel({ name: created.name });
await ai.batches.delete({ name: created.name });
seen.gone = await refused(() => ai.batches.get({ name: created.name }));
await ai.files.delete({ name: file.name });
seen.fileGone = await refused(() => ai.files.get({ name: file.name }));

// A picture at once, and another one that goes on from it.
const config = { thinkingConfig: { includeThoughts: true, thinkingLevel: "HIGH" }, imageConfig: { aspectRatio: "16:9" } };
const first = await ai.models.generateContent({ model, contents: "an owl", config });
seen.first = kinds(first);
seen.usage = first.usageMetadata;
const image = first.candidates[0].content.parts.at(-1).inlineData;
const turns = [{ role: "user", parts: [{ text: "an owl" }] }, first.candidates[0].content];
const night = { role: "user", parts: [{ text: "at night" }] };
seen.second = kinds(await ai.models.generateContent({ model, contents: [...turns, night] }));
const unsigned = { role: "model", parts: [{ inlineData: image }] };
seen.unsigned = await refused(() => ai.models.generateContent({ model, contents: [turns[0], unsigned, night] }));
const reference = { role: "user", parts: [{ text: "like this" }, { inlineData: image }] };
seen.counted = (await ai.models.countTokens({ model, contents: [reference] })).totalTokens;
seen.used = (await ai.models.generateContent({ model, contents: [reference] })).usageMetadata.promptTokenCount;
seen.wrong = await refused(() => ai.models.generateContent({ model, contents: "x", config: { imageConfig: { imageSize: "9K" } } }));

seen.model = (await ai.models.get({ model })).name;
seen.models = await all(ai.models.list({ config: { pageSize: 2 } }));
console.log(JSON.stringify(seen));
