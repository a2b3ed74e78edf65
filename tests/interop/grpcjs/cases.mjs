// gRPC's interop cases by grpc-js against our test service. Says `NAME ok` for each.
// usage: cases.mjs PORT CERT
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.cwd()}/`));
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [port, cert] = process.argv.slice(2);
const definition = loader.loadSync("grpc/testing/test.proto", { includeDirs: ["/usr/share/grpc-proto"], keepCase: true });
const { TestService, UnimplementedService } = grpc.loadPackageDefinition(definition).grpc.testing;
const credentials = grpc.credentials.createSsl(readFileSync(cert));
const stub = new TestService(`localhost:${port}`, credentials);
const stranger = new UnimplementedService(`localhost:${port}`, credentials);
const REQUESTS = [27182, 8, 1828, 45904], RESPONSES = [31415, 9, 2653, 58979];
const SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
const zeros = (n) => ({ body: Buffer.alloc(n) });
const soon = () => ({ deadline: Date.now() + 20000 });

// What a unary call gives: {error, response, initial, status}.
const unary = (method, request, metadata = new grpc.Metadata(), client = stub, options = soon()) => new Promise((resolve) => {
  const got = {};
  const call = client[method](request, metadata, options, (error, response) => { got.error = error; got.response = response; });
  call.on("metadata", (m) => { got.initial = m; });
  call.on("status", (s) => { got.status = s; setImmediate(() => resolve(got)); });
});
// What a stream gave once it is over.
const over = (call, each = () => {}) => new Promise((resolve) => {
  const got = { sizes: [] };
  call.on("data", (r) => { got.sizes.push(r.payload ? r.payload.body.length : 0); each(got.sizes.length); });
  call.on("metadata", (m) => { got.initial = m; });
  call.on("error", () => {});
  call.on("status", (s) => { got.status = s; resolve(got); });
});
const parameters = (sizes) => sizes.map((size) => ({ size }));

const cases = {
  async empty_unary() {
    assert.deepEqual((await unary("EmptyCall", {})).error, null);
  },
  async large_unary() {
    const { response } = await unary("UnaryCall", { response_size: 314159, payload: zeros(271828) });
    assert.equal(response.payload.body.length, 314159);
  },
  async client_streaming() {
    const sum = await new Promise((resolve, reject) => {
      const call = stub.StreamingInputCall(soon(), (e, r) => (e ? reject(e) : resolve(r.aggregated_payload_size)));
      for (const n of REQUESTS) call.write({ payload: zeros(n) });
      call.end();
    });
    assert.equal(sum, 74922);
  },
  async server_streaming() {
    const got = await over(stub.StreamingOutputCall({ response_parameters: parameters(RESPONSES) }, soon()));
    assert.deepEqual([got.sizes, got.status.code], [RESPONSES, 0]);
  },
  async ping_pong() {
    const call = stub.FullDuplexCall(soon());
    const say = (i) => (i < 4 ? call.write({ response_parameters: parameters([RESPONSES[i]]), payload: zeros(REQUESTS[i]) }) : call.end());
    const done = over(call, say);
    say(0);
    const got = await done;
    assert.deepEqual([got.sizes, got.status.code], [RESPONSES, 0]);
  },
  async empty_stream() {
    const call = stub.FullDuplexCall(soon());
    call.end();
    const got = await over(call);
    assert.deepEqual([got.sizes, got.status.code], [[], 0]);
  },
  async custom_metadata() {
    const m = new grpc.Metadata(), bytes = Buffer.from("ababab", "hex");
    m.set("x-grpc-test-echo-initial", "test_initial_metadata_value");
    m.set("x-grpc-test-echo-trailing-bin", bytes);
    const call = stub.FullDuplexCall(m, soon());
    call.write({ response_parameters: parameters([1]) });
    call.end();
    for (const got of await Promise.all([unary("UnaryCall", { response_size: 1 }, m), over(call)])) {
      assert.deepEqual(got.initial.get("x-grpc-test-echo-initial"), ["test_initial_metadata_value"]);
      assert.deepEqual(got.status.metadata.get("x-grpc-test-echo-trailing-bin"), [bytes]);
    }
  },
  async status_code_and_message() {
    for (const message of ["test status message", SPECIAL, "100 %"]) {
      const response_status = { code: 2, message };
      const call = stub.FullDuplexCall(soon());
      call.write({ response_status });
      call.end();
      for (const got of await Promise.all([unary("UnaryCall", { response_status }), over(call)]))
        assert.deepEqual([got.status.code, got.status.details], [2, message]);
    }
  },
  async unimplemented_method() {
    assert.equal((await unary("UnimplementedCall", {})).error.code, grpc.status.UNIMPLEMENTED);
  },
  async unimplemented_service() {
    assert.equal((await unary("UnimplementedCall", {}, undefined, stranger)).error.code, grpc.status.UNIMPLEMENTED);
  },
  async cancel_after_begin() {
    const code = await new Promise((resolve) => {
      const call = stub.StreamingInputCall(soon(), (e) => resolve(e.code));
      call.cancel();
    });
    assert.equal(code, grpc.status.CANCELLED);
  },
  async cancel_after_first_response() {
    const call = stub.FullDuplexCall(soon());
    const done = over(call, () => call.cancel());
    call.write({ response_parameters: parameters([31415]), payload: zeros(27182) });
    const got = await done;
    assert.deepEqual([got.sizes, got.status.code], [[31415], grpc.status.CANCELLED]);
  },
  async timeout_on_sleeping_server() {
    const call = stub.FullDuplexCall({ deadline: Date.now() + 200 });
    call.write({ payload: zeros(27182) });
    assert.equal((await over(call)).status.code, grpc.status.DEADLINE_EXCEEDED);
  },
  async compressed_requests_are_refused() {
    const gzip = new TestService(`localhost:${port}`, credentials, { "grpc.default_compression_algorithm": 2 });
    const got = await unary("UnaryCall", { payload: zeros(1000) }, undefined, gzip);
    assert.equal(got.error.code, grpc.status.UNIMPLEMENTED);
    gzip.close();
  },
};

for (const [name, run] of Object.entries(cases)) {
  await run();
  console.log(`${name} ok`);
}
console.log("all ok");
process.exit(0); // what is cancelled before it is sent grpc-js never resets: the relay ends it, in 10 s
