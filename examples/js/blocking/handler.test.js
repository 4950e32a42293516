// Serves the component by sockserve (SOCKSERVE names another build) and talks to it.
import assert from "node:assert";
import { spawn } from "node:child_process";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { test } from "node:test";

test("each line comes back with its number", { timeout: 60000 }, async () => {
  const program = process.env.SOCKSERVE ?? "sockserve";
  const args = ["serve", "handler.wasm", "--listen", "tcp://127.0.0.1:0"];
  const server = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  try {
    // listening tcp://127.0.0.1:PORT service=…
    const { value: ready } = await createInterface(server.stdout)[Symbol.asyncIterator]().next();
    const port = Number(/:(\d+) /.exec(ready)[1]);
    const client = connect(port, "127.0.0.1");
    client.end("one\ntwo\r\nthree");
    let answer = "";
    for await (const chunk of client) answer += chunk;
    assert.equal(answer, "1 one\n2 two\n3 three\n");
  } finally {
    server.kill();
  }
});
