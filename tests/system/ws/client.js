// One scenario of a client built on npm's ws; prints what it saw as a line of JSON.
// node client.js SCENARIO URL TOKEN [COMMAND]
'use strict';

const WebSocket = require('ws');

const [scenario, url, token, word] = process.argv.slice(2);
const options = { headers: { Authorization: `Bearer ${token}` } };

class Client {
  constructor(more) {
    this.socket = new WebSocket(url, { ...options, ...more });
    this.queue = [];
    this.waiting = [];
    this.order = [];
    this.number = 0;
    this.ended = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    this.socket.on('error', () => {});
    this.socket.on('message', (data, binary) => {
      if (binary) throw new Error('a binary frame in the plain dialect');
      const message = JSON.parse(data.toString());
      this.order.push(message.method === undefined ? 'response' : message.method);
      const waiter = this.waiting.shift();
      if (waiter) waiter(message);
      else this.queue.push(message);
    });
  }

  next() {
    if (this.queue.length > 0) return Promise.resolve(this.queue.shift());
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  async until(wanted, other = () => {}) {
    for (;;) {
      const message = await this.next();
      if (wanted(message)) return message;
      other(message);
    }
  }

  send(method, params) {
    this.number += 1;
    this.socket.send(JSON.stringify({ jsonrpc: '2.0', id: this.number, method, params }));
    return this.number;
  }

  answer(id) {
    return this.until((message) => message.method === undefined && message.id === id);
  }

  method(name, other) {
    return this.until((message) => message.method === name, other);
  }
}

async function connected(more) {
  const client = new Client(more);
  await client.method('connected');
  return client;
}

async function run() {
  const client = await connected();
  const seen = { stdout: '', stderr: '' };
  client.send('execute', { command: word });
  const done = await client.method('process.completed', (message) => {
    if (message.method === 'process.output') seen[message.params.type] += message.params.data;
  });
  client.socket.close();
  await client.ended;
  return { ...seen, order: client.order, completed: done.params };
}

async function leave(how) {
  const client = await connected();
  client.send('execute', { command: word });
  await client.method('process.started');
  if (how === 'close') client.socket.close();
  else client.socket.terminate();
  await client.ended;
  return { left: how };
}

async function control() {
  const client = await connected();
  await client.answer(client.send('execute', { command: word }));
  const statuses = [];
  for (const type of ['PAUSE', 'RESUME']) {
    statuses.push((await client.answer(client.send('control', { type }))).result.status);
  }
  const unknown = (await client.answer(client.send('control', { type: 'EXPLODE' }))).error;
  statuses.push((await client.answer(client.send('control', { type: 'CANCEL' }))).result.status);
  const done = await client.method('process.completed');
  const gone = (await client.answer(client.send('control', { type: 'CANCEL' }))).error;
  client.socket.close();
  await client.ended;
  return { statuses, unknown, completed: done.params, gone };
}

async function limit() {
  const clients = [];
  for (let n = 0; n < Number(word); n += 1) clients.push(await connected());
  const refused = new Client();
  const { error } = await refused.next();
  const close = await refused.ended;
  clients[0].socket.close();
  await clients[0].ended;
  // The place is free once everything of that session is gone.
  let again;
  for (let n = 0; n < 100 && again !== 'connected'; n += 1) {
    const client = new Client();
    again = (await client.next()).method || 'refused';
    client.socket.close();
    await client.ended;
    if (again !== 'connected') await new Promise((resolve) => setTimeout(resolve, 50));
  }
  for (const client of clients.slice(1)) client.socket.close();
  return { error, close, again };
}

async function large() {
  const client = await connected({ perMessageDeflate: true });
  const id = client.send('hook_status', { pad: 'x'.repeat(1000000) });
  const answer = await client.answer(id);
  client.send('hook_status', { pad: 'x'.repeat(1100000) });
  return { taken: answer.result.enabled === false, close: await client.ended };
}

async function flood() {
  const client = await connected();
  client.send('execute', { command: word });
  let text = '';
  let count = 0;
  const done = await client.method('process.completed', (message) => {
    if (message.method !== 'process.output') return;
    text += message.params.data;
    count += 1;
    if (count % 10 === 0) {
      client.socket.pause();
      setTimeout(() => client.socket.resume(), 5);
    }
  });
  client.socket.close();
  const lines = text.trimEnd().split('\n');
  return { lines: lines.length, last: lines[lines.length - 1], completed: done.params };
}

const scenarios = {
  run,
  control,
  limit,
  large,
  flood,
  leave: () => leave('close'),
  terminate: () => leave('terminate'),
};

scenarios[scenario]().then(
  (seen) => {
    console.log(JSON.stringify(seen));
    process.exit(0);
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
