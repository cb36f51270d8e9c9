// Every call of the JavaScript client for the endpoints of the embedded server; prints the name of each that passed.
import assert from "node:assert/strict";
import { Ollama } from "ollama";

const [host, model] = process.argv.slice(2);
const client = new Ollama({ host });
const messages = [{ role: "user", content: "Say hi" }];
const options = { temperature: 0, seed: 3, num_predict: 8 };
const schema = {
  type: "object",
  properties: { tone: { type: "string", enum: ["up", "down"] } },
  required: ["tone"],
};
const passed = (name) => console.log(name);

async function collect(stream, pick) {
  let text = "";
  let last;
  for await (const part of stream) {
    text += pick(part);
    last = part;
  }
  assert.equal(last.done, true);
  return text;
}

assert.match((await client.version()).version, /^\d+\.\d+\.\d+$/);
passed("version");
assert.deepEqual((await client.list()).models.map((each) => each.name), [model]);
passed("list");
assert.deepEqual((await client.show({ model })).capabilities, ["completion"]);
passed("show");
const chat = await client.chat({ model, messages, options });
assert.equal(chat.message.role, "assistant");
assert.ok(chat.eval_count > 0);
passed("chat");
const chatText = await collect(await client.chat({ model, messages, options, stream: true }), (part) => part.message.content);
assert.equal(chatText, chat.message.content);
passed("chat-stream");
const told = await client.chat({ model, messages, format: schema, options: { temperature: 0 } });
assert.ok(["up", "down"].includes(JSON.parse(told.message.content).tone));
passed("format");
const made = await client.generate({ model, prompt: "Say hi", system: "Be brief.", options });
assert.ok(made.context.length > 0);
passed("generate");
const madeText = await collect(
  await client.generate({ model, prompt: "Say hi", system: "Be brief.", options, stream: true }),
  (part) => part.response,
);
assert.equal(madeText, made.response);
passed("generate-stream");
assert.equal((await client.embed({ model, input: ["a", "b"] })).embeddings.length, 2);
passed("embed");
assert.equal((await client.embeddings({ model, prompt: "a" })).embedding.length, 576);
passed("embeddings");
assert.equal((await client.ps()).models[0].name, model);
passed("ps");
const scored = await client.chat({ model, messages, options, logprobs: true, top_logprobs: 2 });
assert.equal(scored.logprobs.length, scored.eval_count);
assert.equal(scored.logprobs[0].top_logprobs.length, 2);
passed("logprobs");
await assert.rejects(client.chat({ model: "none", messages }), (error) => error.status_code === 404);
passed("missing");
await assert.rejects(client.generate({ model: "none", prompt: "x", stream: true }), (error) => error.status_code === 404);
passed("missing-stream");
for (const call of [
  () => client.pull({ model: "x" }),
  () => client.push({ model: "x" }),
  () => client.create({ model: "x", from: model }),
  () => client.copy({ source: "x", destination: "y" }),
  () => client.delete({ model: "x" }),
]) {
  await assert.rejects(call(), (error) => error.status_code === 404 && /is not served here/.test(error.message));
}
passed("unserved");
const endless = await client.generate({ model, prompt: "Tell a long story", options: { num_predict: 5000 }, stream: true });
await assert.rejects(
  (async () => {
    for await (const part of endless) {
      assert.equal(part.done, false);
      endless.abort();
    }
  })(),
  (error) => error.name === "AbortError",
);
passed("abort");
assert.equal((await client.generate({ model, prompt: "", keep_alive: 0 })).done_reason, "unload");
passed("unload");
