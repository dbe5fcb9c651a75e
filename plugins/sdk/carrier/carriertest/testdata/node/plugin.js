// How a carrier written in Node meets its host: mutual TLS with a certificate made for this
// one run, the line that says where to connect, and an end when the host ends.
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';
import { generate } from 'selfsigned';

const protocol = 1; // of the handshake, as the host counts it
const maxMessage = 4 << 20;

// serve serves the calls of a carrier: each is given the request and returns the result, or
// throws an Error with the fields of crossdock.plugin.v1.Error.
export async function serve(protos, calls) {
  if (process.env.CROSSDOCK_PLUGIN !== 'crossdock') {
    console.error('this program is a plugin: an agent starts it');
    process.exit(1);
  }
  if (process.env.CROSSDOCK_PLUGIN_LIFELINE) {
    const line = new net.Socket({ fd: Number(process.env.CROSSDOCK_PLUGIN_LIFELINE), readable: true, writable: false });
    line.on('error', () => process.exit(1)).on('close', () => process.exit(1)).resume();
  }
  const loaded = loader.loadSync(path.join('carrier', 'carrierpb', 'carrier.proto'), {
    includeDirs: [protos], keepCase: true, defaults: true, arrays: true, objects: true, longs: String,
  });
  const { Carrier } = grpc.loadPackageDefinition(loaded).crossdock.carrier.v1;
  const handlers = {};
  for (const name of Object.keys(Carrier.service)) {
    const call = calls[name] ?? lacking;
    handlers[name] = (request, answer) => {
      try {
        answer(null, { result: call(request.request) });
      } catch (e) {
        answer(null, { error: coded(e) });
      }
    };
  }
  const server = new grpc.Server({ 'grpc.max_receive_message_length': maxMessage, 'grpc.max_send_message_length': maxMessage });
  server.addService(Carrier.service, handlers);
  server.addService(controller, {
    Shutdown: (_, answer) => {
      answer(null, {});
      setImmediate(() => process.exit(0));
    },
  });
  const { credentials, certificate } = await identity();
  server.bindAsync('127.0.0.1:0', credentials, (failed, port) => {
    if (failed) throw failed;
    fs.writeSync(1, `1|${protocol}|tcp|127.0.0.1:${port}|grpc|${certificate}\n`);
  });
}

// lacking stands for a call that the carrier does not have. gRPC's own UNIMPLEMENTED would not
// do: of a call that buys, a host takes it for a purchase whose answer was lost.
function lacking() {
  throw { class: 'not_supported', fault: 'caller', message: 'this carrier has no such operation' };
}

function coded(e) {
  if (e.class) return e;
  console.error(e.stack); // the host keeps what is written here
  return { class: 'internal', fault: 'plugin', message: String(e.message) };
}

// identity is what this run proves to its host, which alone is let in: it has passed its own
// certificate in the environment.
async function identity() {
  if (!process.env.PLUGIN_CLIENT_CERT) {
    return { credentials: grpc.ServerCredentials.createInsecure(), certificate: '' };
  }
  const made = await generate([{ name: 'commonName', value: 'localhost' }], {
    keyType: 'ec', algorithm: 'sha256',
    extensions: [
      { name: 'basicConstraints', cA: true, critical: true },
      { name: 'keyUsage', digitalSignature: true, keyCertSign: true, critical: true },
      { name: 'extKeyUsage', serverAuth: true },
      { name: 'subjectAltName', altNames: [{ type: 2, value: 'localhost' }] },
    ],
  });
  const pair = { private_key: Buffer.from(made.private), cert_chain: Buffer.from(made.cert) };
  return {
    credentials: grpc.ServerCredentials.createSsl(Buffer.from(process.env.PLUGIN_CLIENT_CERT), [pair], true),
    certificate: made.cert.replace(/-----[^-]+-----|\s|=/g, ''), // the DER in base64 without padding
  };
}

const empty = { requestSerialize: () => Buffer.alloc(0), requestDeserialize: () => ({}), responseSerialize: () => Buffer.alloc(0), responseDeserialize: () => ({}) };

// controller is how a host asks a plugin to end by itself.
const controller = { Shutdown: { path: '/plugin.GRPCController/Shutdown', requestStream: false, responseStream: false, ...empty } };
