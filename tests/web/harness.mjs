// What the browser tests share: the real binary as child processes, a static web server, Chromium. Everything on loopback
// and on ports that the system chooses; children are stopped by their id; waiting is for events, never for time.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';
import { at, chromium as found } from '../../scripts/lib.mjs';
import { listen } from './serve.mjs';

/** The binary under test. */
export const BINARY = process.env.PEERAGE_BIN ?? at('target/release/peerage');

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--allow-loopback-in-peer-connection', '--disable-features=WebRtcHideLocalIpsWithMdns',
  // Several tabs share one window: those behind must go on like those in front.
  '--disable-background-timer-throttling', '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding',
];

/** Where a process runs: the network namespace, and the address it has there. This is the machine itself. */
export const HERE = { inside: undefined, address: '127.0.0.1' };

/** A command as it runs in a place. */
const within = ({ inside }, ...command) => (inside ? ['ip', 'netns', 'exec', inside, ...command] : command);

/** Starts a browser in a place; the test's end closes it. */
export async function browser(t, place = HERE, flags = []) {
  let executablePath = found();
  if (!executablePath) throw new Error('no Chromium; node scripts/setup.mjs says how to get one');
  if (place.inside) {
    const script = join(await scratch(t), 'chromium');
    await writeFile(script, `#!/bin/sh\nexec ${within(place, executablePath).join(' ')} "$@"\n`, { mode: 0o755 });
    executablePath = script;
  }
  const started = await chromium.launch({ executablePath, args: [...FLAGS, ...flags] });
  atEnd(t, () => started.close());
  return started;
}

/** Whether a browser logged no fault of the page, but that whom it dialled is not there. */
export const isDial = (fault) => /WebSocket connection|libp2p-webtransport/.test(fault);

/** A new tab in a context of its own, or in `context`. What it throws or logs as an error is collected in `faults`. */
export async function tab(started, { context, ...options } = {}) {
  context ??= await started.newContext(options);
  const page = await context.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(error.stack ?? String(error)));
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  return Object.assign(page, { faults });
}

/** A tab of the bare package with a node that uses this relay, as `window.node`. `url` is an empty page beside the package. */
export async function noded(started, url, relay) {
  const page = await tab(started);
  await page.goto(url);
  const node = await page.evaluate(async (relay) => {
    const { Node } = await import('/dist/index.js');
    window.node = await Node.start({ relays: [relay] });
    return window.node.id;
  }, relay);
  return Object.assign(page, { node });
}

/** Serves a folder on the loopback of a place, where a page is a secure one; `extra` maps further paths to texts of HTML. Gives the base address. */
export async function serve(t, folder, extra = {}, place = HERE) {
  if (!place.inside) {
    const { server, base } = await listen(folder, extra);
    atEnd(t, () => { server.closeAllConnections(); server.close(); });
    return base;
  }
  const [command, ...args] = within(place, process.execPath, at('tests/web/serve.mjs'), folder, JSON.stringify(extra));
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  atEnd(t, () => child.kill());
  const [base] = await once(createInterface({ input: child.stdout }), 'line');
  return base;
}

const ends = new WeakMap();

/** Does this after the test. What was asked for last is done first, for it may use what was there before; and all of it, whatever fails. */
function atEnd(t, end) {
  if (!ends.has(t)) {
    ends.set(t, []);
    t.after(async () => {
      const failed = [];
      for (const end of ends.get(t).reverse()) {
        try { await end(); } catch (error) { failed.push(error); }
      }
      if (failed.length > 0) throw new AggregateError(failed, failed.map(String).join('; '));
    });
  }
  ends.get(t).push(end);
}

/** A folder that is gone after the test. */
export async function scratch(t) {
  const folder = await mkdtemp(join(tmpdir(), 'peerage-test-'));
  atEnd(t, () => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A running `peerage …`: its JSON lines, its standard input, its end. */
export class Child {
  #lines = [];
  #waiting = [];
  #errors = '';
  #printed = '';

  constructor(t, args, place = HERE) {
    if (!existsSync(BINARY)) throw new Error(`${BINARY} is not there; npm run build makes it`);
    const [command, ...rest] = within(place, BINARY, ...args);
    this.process = spawn(command, rest, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.ended = new Promise((resolve) => this.process.once('exit', (code, signal) => resolve({ code, signal })));
    this.process.stderr.on('data', (data) => { this.#errors = (this.#errors + data).slice(-8000); });
    this.process.stdout.on('data', (data) => { this.#printed = (this.#printed + data).slice(-32_000); });
    createInterface({ input: this.process.stdout }).on('line', (line) => this.#take(line));
    this.ended.then((end) => this.#settle(end));
    atEnd(t, () => this.stop('SIGKILL'));
  }

  get pid() { return this.process.pid; }
  get errors() { return this.#errors; }

  /** The first JSON line, from now or before, that `wanted` accepts. Lines are kept, each may be found once. */
  line(wanted, what = 'a line', ms = 30_000) {
    const index = this.#lines.findIndex(wanted);
    if (index >= 0) return Promise.resolve(this.#lines.splice(index, 1)[0]);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ${what} from ${this.process.spawnargs.slice(1).join(' ')} in ${ms} ms; stderr: ${this.#errors}`)), ms);
      this.#waiting.push({ wanted, resolve: (value) => { clearTimeout(timer); resolve(value); }, reject: (error) => { clearTimeout(timer); reject(error); } });
    });
  }

  /** The first match of a pattern in what was and will be printed, JSON or not. */
  match(pattern, ms = 60_000) {
    return new Promise((resolve, reject) => {
      const look = () => { const found = this.#printed.match(pattern); if (found) settle(resolve, found); };
      const timer = setTimeout(() => settle(reject, new Error(`no ${pattern} in ${ms} ms; printed: ${this.#printed}; stderr: ${this.#errors}`)), ms);
      const settle = (how, value) => { clearTimeout(timer); this.process.stdout.off('data', look); how(value); };
      this.process.stdout.on('data', look);
      this.ended.then(() => settle(reject, new Error(`peerage ended; printed: ${this.#printed}; stderr: ${this.#errors}`)));
      look();
    });
  }

  /** The pids of the processes this one started whose arguments have `word` among them. */
  async offspring(word) {
    const pids = (await readFile(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8')).split(' ').filter(Boolean).map(Number);
    const named = await Promise.all(pids.map(async (pid) => [pid, (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0')]));
    return named.filter(([, args]) => args.includes(word)).map(([pid]) => pid);
  }

  /** Writes a command as a JSON line. */
  say(command) {
    this.process.stdin.write(`${JSON.stringify(command)}\n`);
  }

  /** Sends a signal to this child alone and waits for its end. */
  async stop(signal = 'SIGTERM') {
    if (this.process.exitCode === null && this.process.signalCode === null) this.process.kill(signal);
    return this.ended;
  }

  #take(text) {
    let value;
    try {
      value = JSON.parse(text);
    } catch {
      return;
    }
    const index = this.#waiting.findIndex(({ wanted }) => wanted(value));
    if (index >= 0) this.#waiting.splice(index, 1)[0].resolve(value);
    else this.#lines.push(value);
  }

  #settle({ code, signal }) {
    for (const { reject } of this.#waiting.splice(0)) reject(new Error(`peerage ended (${signal ?? code}); stderr: ${this.#errors}`));
  }
}

/** A relay on free ports of a place, with what it said when it was ready: `{ child, data, place, id, addresses, http }`. */
export async function relay(t, data, { place = HERE, listen = [], more = [] } = {}) {
  const { address } = place;
  return relaying(t, data, place, [...listen, `/ip4/${address}/tcp/0`, `/ip4/${address}/tcp/0/ws`, `/ip4/${address}/udp/0/quic-v1/webtransport`, `/ip4/${address}/udp/0/webrtc-direct`], more);
}

/** Another process in the place of a relay that ended: same folder, same ports. */
export function again(t, { data, place, addresses }) {
  return relaying(t, data, place, [...new Set(addresses.map((address) => address.replace(/\/(certhash|p2p)\/.*/, '')))]);
}

async function relaying(t, data, place, listens, more = []) {
  const child = new Child(t, ['--data', data, 'relay', '--http', '127.0.0.1:0', ...listens.flatMap((address) => ['--listen', address]), ...more], place);
  return { child, data, place, ...(await child.line((line) => line.role === 'relay', 'ready line')) };
}

/** A port that nothing uses now. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A process's counters, by name. */
export async function metrics(http) {
  const base = http.startsWith('http') ? http : `http://${http}`;
  const text = await (await fetch(new URL('/metrics', base))).text();
  return Object.fromEntries(text.split('\n').filter((line) => line && !line.startsWith('#')).map((line) => [line.split(' ')[0], Number(line.split(' ')[1])]));
}

/** Runs a `peerage …` that ends by itself; what it printed, without the last line's end. */
export async function run(...args) {
  const { stdout } = await promisify(execFile)(BINARY, args);
  return stdout.trimEnd();
}

/**
 * `peerage up` on ports of its own, with the link it printed. Relay and manager record what they receive in `records`.
 * `relayed` gives the bytes that the relay received and sent.
 */
export async function up(t) {
  const folder = await scratch(t);
  const [page, health] = [await freePort(), await freePort()];
  const records = { relay: join(folder, 'relay.bin'), manager: join(folder, 'manager.bin') };
  await writeFile(join(folder, 'peerage.toml'), `
[relay]
listen = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/udp/0/webrtc-direct"]
http = "127.0.0.1:${health}"
record = "${records.relay}"
[manager]
listen = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"]
record = "${records.manager}"
[page]
http = "127.0.0.1:${page}"
www = "${at('www/dist')}"
`);
  const child = new Child(t, ['--data', join(folder, 'data'), '--config', join(folder, 'peerage.toml'), 'up']);
  const [link] = await child.match(/http:\/\/\S+#\S+/);
  const relayed = async () => { const m = await metrics(`127.0.0.1:${health}`); return m.peerage_stream_received_bytes_total + m.peerage_stream_sent_bytes_total; };
  return { child, link, records, relayed };
}

/**
 * A domain as several machines would run it: `peerage relay`, once or more often, and `peerage manager`, each by itself, and the page
 * from a server of the test's. `hint` says which of a relay's addresses links name; `invites` are the options of each link; `place` is
 * where relays and manager run; relays listen on `listen` besides.
 */
export async function domain(t, { hint = (address) => address.includes('/ws/'), invites = [[]], relays: count = 1, listen = [], place = HERE } = {}) {
  const folder = await scratch(t);
  const data = join(folder, 'data');
  const records = { relay: join(folder, 'relay.bin'), manager: join(folder, 'manager.bin') };
  const relays = await Promise.all(Array.from({ length: count }, (_, i) => relay(t, join(folder, `relay-${i}`), { place, listen, more: i ? [] : ['--record', records.relay] })));
  const [served] = relays;
  const page = await serve(t, at('www/dist'));
  await run('--data', data, 'domain', 'create', 'the workshop');
  const hints = relays.flatMap(({ addresses }) => addresses.filter(hint)).flatMap((address) => ['--relay', address]);
  const links = [];
  for (const options of invites) links.push(await run('--data', data, 'invite', '--page', page, ...hints, ...options));
  const manager = await manage(t, { data, relays, place, more: ['--record', records.manager] });
  const received = async () => (await metrics(served.http)).peerage_stream_received_bytes_total;
  return { folder, data, page, links, link: links[0], records, relays, relay: { ...served, received }, manager };
}

/** `peerage manager` of a domain, ready: for the first time, or again. */
export async function manage(t, { data, relays, place = HERE, more = [] }) {
  const child = new Child(t, [
    '--data', data, 'manager', ...relays.flatMap(({ addresses }) => ['--relay', addresses.find((a) => /\/tcp\/\d+\/p2p\//.test(a))]),
    '--listen', `/ip4/${place.address}/tcp/0`, '--listen', `/ip4/${place.address}/tcp/0/ws`, ...more,
  ], place);
  const { id } = await child.line((line) => line.role === 'manager', 'ready line');
  return { child, id };
}

/** Page scripts that run before the page's own, for {@link opened}. */
export const scripts = {
  /** Keeps every connection, for its statistics. */
  connections: () => {
    window.connections = [];
    const Original = RTCPeerConnection;
    window.RTCPeerConnection = class extends Original { constructor(...args) { super(...args); window.connections.push(this); } };
  },
  /** No candidate comes in or goes out, as behind a firewall that lets no UDP through: ICE cannot succeed. */
  withoutIce: () => {
    const Original = RTCPeerConnection;
    window.RTCPeerConnection = class extends Original {
      async addIceCandidate() {}
      get onicecandidate() { return null; }
      set onicecandidate(_) {}
    };
  },
  /** Candidates are held back until the page calls `heldIce()`: a direct way is found only then. */
  lateIce: () => {
    const released = new Promise((resolve) => { window.heldIce = resolve; });
    const Original = RTCPeerConnection;
    window.RTCPeerConnection = class extends Original {
      async addIceCandidate(...args) { await released; return super.addIceCandidate(...args); }
    };
  },
  /** The page draws no room but lists who is there: eight software renderers are too much for two cores. */
  withoutWebGl: () => {
    const original = HTMLCanvasElement.prototype.getContext;
    HTMLCanvasElement.prototype.getContext = function (kind, ...rest) { return kind.startsWith('webgl') ? null : original.call(this, kind, ...rest); };
    // three.js logs what it then throws, which is no fault here.
    const error = console.error;
    console.error = (...args) => { if (!String(args[0]).startsWith('THREE.WebGLRenderer')) error(...args); };
  },
};

/**
 * A tab with this link open, where the page has said that it joined or why not. `before`: scripts that run before the page's;
 * `prepare` gets the tab while it is still empty.
 */
export async function opened(started, link, { before = [], name, prepare, ...options } = {}) {
  const page = await tab(started, options);
  prepare?.(page);
  for (const script of [scripts.connections, ...before]) await page.addInitScript(script);
  if (name) await page.addInitScript((name) => sessionStorage.setItem('peerage.name', name), name);
  await page.goto(link);
  return settled(page);
}

/** Waits until the page in a tab has said that it joined or why not. */
export async function settled(page) {
  await page.waitForSelector('html[data-state="joined"], html[data-state="failed"]', { timeout: 120_000 }).catch(async (error) => {
    const seen = await page.evaluate(() => ({
      state: document.documentElement.dataset.state, status: document.getElementById('status')?.textContent,
      visible: document.visibilityState, node: window.peerage?.node.id, links: window.peerage?.node.links(),
    }));
    assert.fail(`${error.message}\n${JSON.stringify(seen)}\n${page.faults.join('\n')}`);
  });
  const node = await page.evaluate(() => window.peerage?.node.id);
  return Object.assign(page, { node, code: await page.getAttribute('html', 'data-code') });
}

/** A tab that joined. */
export async function joined(started, link, options) {
  const page = await opened(started, link, options);
  assert.equal(await page.getAttribute('html', 'data-state'), 'joined', await page.textContent('#gate'));
  return page;
}

/** Waits in a tab until a condition holds there. */
export const until = (page, condition, argument, what) =>
  page.waitForFunction(condition, argument, { timeout: 60_000, polling: 100 }).catch(() => assert.fail(`${what}; faults: ${page.faults.join('; ')}`));

/** Waits until a tab reaches all of these on such a path. */
export const reached = (page, ids, path) => until(page, ([ids, path]) => {
  const links = window.peerage.domain.links();
  return ids.every((id) => links.some((link) => link.peer === id && link.path === path && link.rttMs !== undefined));
}, [ids, path], `no ${path} links to all other tabs`);

/** Waits until a tab reaches all of these directly. */
export const direct = (page, ids) => reached(page, ids, 'direct');

/** Sends `size` bytes from one tab to another and compares their SHA-256. */
export async function carry(from, to, size, name) {
  const arrived = to.evaluate(([name, sender]) => new Promise((resolve) => {
    window.peerage.domain.channel(name).on(async (bytes, { from }) => {
      if (from === sender) resolve([bytes.length, [...new Uint8Array(await crypto.subtle.digest('SHA-256', bytes.slice()))].join()]);
    });
  }), [name, from.node]);
  const sent = await from.evaluate(async ([name, size, to]) => {
    const bytes = new Uint8Array(size);
    for (let i = 0; i < size; i += 65536) crypto.getRandomValues(bytes.subarray(i, Math.min(size, i + 65536)));
    await window.peerage.domain.channel(name).send(bytes, { to });
    return [size, [...new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))].join()];
  }, [name, size, to.node]);
  assert.deepEqual(await arrived, sent);
}

/** Waits until a fresh pose of `other` arrives in `page`. */
export const posed = (page, other) => page.evaluate((id) => new Promise((resolve) => {
  const off = window.peerage.shared.poseChannel.on((_, { from }) => { if (from === id) { off(); resolve(); } });
}), other.node);
