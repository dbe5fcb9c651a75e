// A carrier that rides a bicycle through one country, in memory. Started with the folder of
// the proto files.
import { isDeepStrictEqual } from 'node:util';
import { serve } from './plugin.js';

function fail(cls, message, field = '') {
  throw { class: cls, fault: 'caller', message, field };
}

const bought = new Map(); // by reference: {asked, answer}

function price(shipment) {
  if (shipment.parcels.length === 0) fail('validation', 'there is none', 'parcels');
  if (shipment.to?.country !== 'NL') fail('not_serviced', 'the bicycle stays in the Netherlands', 'to.country');
  const cents = (n) => ({ amount: `${n / 100n}.${String(n % 100n).padStart(2, '0')}`, currency: 'EUR' });
  const base = 395n * BigInt(shipment.parcels.length);
  return {
    service: 'bike', name: 'Bicycle', total: cents(base + 21n), days: 1, source: 'local', data: '2026-11',
    charges: [{ kind: 'base', name: 'Ride', amount: cents(base) }, { kind: 'surcharge', name: 'Tyres', amount: cents(21n) }],
  };
}

function find(reference) {
  return bought.get(reference) ?? fail('not_found', 'nothing was bought under it', 'reference');
}

await serve(process.argv[2], {
  Describe: () => ({
    description: {
      name: 'bike', version: '1', data: '2026-11',
      config: [{ name: 'account', help: 'of the sender', required: true }],
      operations: [{ name: 'rate', offline: true }, { name: 'ship', buys: true }, { name: 'get-by-reference' }, { name: 'void', buys: true }],
    },
    services: [{ code: 'bike', name: 'Bicycle' }],
    labels: ['zpl'],
  }),
  Configure: ({ settings }) => {
    if (!settings.account) fail('validation', 'it is missing', 'account');
  },
  Rate: (shipment) => ({ rates: [price(shipment)] }),
  Ship: (shipment) => {
    const { reference, label } = shipment;
    if (reference === '' || Buffer.byteLength(reference) > 64) fail('validation', '1 to 64 bytes are needed', 'reference');
    if (label !== '' && label !== 'zpl') fail('not_supported', 'labels are zpl', 'label');
    const rate = price(shipment);
    const before = bought.get(reference);
    if (before) {
      if (!isDeepStrictEqual(before.asked, shipment)) fail('duplicate', 'it was bought with other contents', 'reference');
      return before.answer;
    }
    const id = `B${bought.size + 1}`;
    const answer = {
      reference, shipment: id, service: 'bike', rate,
      parcels: shipment.parcels.map((p, i) => ({ reference: p.reference, tracking: `${id}-${i + 1}`, label: i })),
      documents: shipment.parcels.map((_, i) => ({ kind: 'label', format: 'zpl', data: Buffer.from(`^XA^FD${id}-${i + 1}^FS^XZ`) })),
    };
    bought.set(reference, { asked: shipment, answer });
    return answer;
  },
  GetByReference: ({ reference }) => find(reference).answer,
  Void: ({ reference }) => {
    find(reference).answer.voided = true;
    return { reference, accepted: true, refund: find(reference).answer.rate.total };
  },
});
