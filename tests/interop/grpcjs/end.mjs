// A stock grpc-js end: registers, sends datagrams of every size to its peer, and checks that the same
// bytes come back. Then echoes what its peer sends until it is told `bye`.
// usage: end.mjs PROTO PORT CERT TOKEN-FILE ID PEER [echo | full]
//   echo: skips the sizes; full: sends without end as fast as it may, prints each second how much came
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.cwd()}/`));
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [proto, port, cert, tokenFile, id, peer, mode] = process.argv.slice(2);
const { tunn } = grpc.loadPackageDefinition(loader.loadSync(proto, { keepCase: true, enums: String, defaults: true, oneofs: true }));
const stub = new tunn.v1.TunnelService(`localhost:${port}`, grpc.credentials.createSsl(readFileSync(cert)));
const call = stub.EstablishTunnel();
const sizes = [0, 1, 127, 128, 1420, 16384, 65507];
let waiting;

function next() {
  if (sizes.length === 0) {
    console.log("sizes ok");
    waiting = undefined;
    return;
  }
  waiting = randomBytes(sizes.shift());
  call.write({ udp_packet: { peer_id: peer, data: waiting } });
}

let received = 0;
const datagram = { udp_packet: { peer_id: peer, data: randomBytes(1420) } };
function pour() {
  while (call.write(datagram));
  call.once("drain", () => setImmediate(pour));
}

call.on("data", (m) => {
  if (m.register_response) console.log(`registered account ${m.register_response.account}`);
  if (m.health_check) call.write({ health_check_response: { timestamp: m.health_check.timestamp } });
  if (m.peer_status?.state === "UP" && mode === "full") {
    pour();
    setInterval(() => console.log(`received ${received}`), 1000);
  }
  if (m.peer_status?.state === "UP" && !mode) next();
  if (!m.udp_packet) return;
  if (mode === "full") {
    received++;
    return;
  }
  if (waiting) {
    if (!m.udp_packet.data.equals(waiting)) {
      console.log(`wrong bytes: ${m.udp_packet.data.length} for ${waiting.length}`);
      process.exit(1);
    }
    next();
  } else if (m.udp_packet.data.toString() === "bye") {
    call.end();
  } else {
    call.write({ udp_packet: { peer_id: peer, data: m.udp_packet.data, flow: m.udp_packet.flow } });
  }
});
call.on("status", (s) => {
  console.log(`status ${s.code} ${s.details}`);
  stub.close();
});
call.on("error", () => {});
call.write({
  register_client: {
    tunnel_id: id,
    auth_token: readFileSync(tokenFile, "utf8").trim(),
    relay: { peer_ids: [peer] },
  },
});
