// A carrier that rides a bicycle through one country, and writes what it sold into a file.
// Started with the folder of the proto files.
import fs from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { serve } from './plugin.js';

function fail(cls, message, field = '') {
  throw { class: cls, fault: 'caller', message, field };
}

const bought = new Map(); // by reference: {asked, answer}, as JSON
let state; // the file: a line for each thing that was bought, or given back

function open(file) {
  state = file;
  bought.clear();
  if (!fs.existsSync(file)) return;
  for (const line of fs.readFileSync(file, 'utf8').split('\n').filter(Boolean)) {
    const { reference, purchase } = JSON.parse(line);
    bought.set(reference, purchase);
  }
}

// keep puts on disk what is about to be answered.
function keep(reference, purchase) {
  const file = fs.openSync(state, 'a');
  try {
    fs.writeSync(file, JSON.stringify({ reference, purchase }) + '\n');
    fs.fsyncSync(file);
  } catch (e) {
    throw { class: 'unknown_outcome', fault: 'plugin', message: `${state} cannot be written: ${e.message}` };
  } finally {
    fs.closeSync(file);
  }
  bought.set(reference, purchase);
}

// told is a purchase as it is answered: JSON has no bytes.
const told = ({ answer }) => ({ ...answer, documents: answer.documents.map((d) => ({ ...d, data: Buffer.from(d.data, 'base64') })) });

// refuse is for what this carrier does not do, so that it is not left undone in silence.
function refuse(shipment) {
  const { reference, date, label, label_dpi, rate_id, payer, insurance, cod, options } = shipment;
  if (reference === '' || Buffer.byteLength(reference) > 64) fail('validation', '1 to 64 bytes are needed', 'reference');
  if (!/^\d{4}-\d{2}-\d{2}$/.test(date)) fail('validation', 'a day such as 2026-11-30 is needed', 'date');
  if (label !== '' && label !== 'zpl') fail('not_supported', 'labels are zpl', 'label');
  if (label_dpi !== 0 && label_dpi !== 203) fail('not_supported', 'labels have 203 dots an inch', 'labelDpi');
  if (rate_id !== '') fail('validation', 'prices have no identifiers', 'rateId');
  if (payer) fail('not_supported', 'the sender pays', 'payer');
  if (insurance) fail('not_supported', 'nothing is insured', 'insurance');
  if (cod) fail('not_supported', 'nothing is collected', 'cod');
  if (Object.keys(options).length > 0) fail('not_supported', 'there are no options', 'options');
}

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
      config: [{ name: 'account', help: 'of the sender', required: true }, { name: 'state', help: 'file of what was sold', required: true }],
      operations: [{ name: 'rate', offline: true }, { name: 'ship', buys: true }, { name: 'get-by-reference' }, { name: 'void', buys: true }],
    },
    services: [{ code: 'bike', name: 'Bicycle' }],
    labels: ['zpl'],
  }),
  Configure: ({ settings }) => {
    for (const name of ['account', 'state']) if (!settings[name]) fail('validation', 'it is missing', name);
    open(settings.state);
  },
  Rate: (shipment) => ({ rates: [price(shipment)] }),
  Ship: (shipment) => {
    refuse(shipment);
    const { reference } = shipment;
    const rate = price(shipment);
    const before = bought.get(reference);
    const asked = JSON.parse(JSON.stringify(shipment));
    if (before) {
      if (!isDeepStrictEqual(before.asked, asked)) fail('duplicate', 'it was bought with other contents', 'reference');
      return told(before);
    }
    const id = `B${bought.size + 1}`;
    const answer = {
      reference, shipment: id, service: 'bike', rate,
      parcels: shipment.parcels.map((p, i) => ({ reference: p.reference, tracking: `${id}-${i + 1}`, label: i })),
      documents: shipment.parcels.map((_, i) => ({ kind: 'label', format: 'zpl', data: Buffer.from(`^XA^FD${id}-${i + 1}^FS^XZ`).toString('base64') })),
    };
    keep(reference, { asked, answer });
    return told({ answer });
  },
  GetByReference: ({ reference }) => told(find(reference)),
  Void: ({ reference }) => {
    const { asked, answer } = find(reference);
    if (!answer.voided) keep(reference, { asked, answer: { ...answer, voided: true } });
    return { reference, accepted: true, refund: answer.rate.total };
  },
});
