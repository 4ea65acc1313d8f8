// What the browser tests share: the real binary as child processes, a static web server, Chromium. Everything on loopback
// and on ports that the system chooses; children are stopped by their id; waiting is for events, never for time.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { extname, join, normalize } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';
import { at, chromium as found } from '../../scripts/lib.mjs';

/** The binary under test. */
export const BINARY = process.env.PEERAGE_BIN ?? at('target/release/peerage');

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--allow-loopback-in-peer-connection', '--disable-features=WebRtcHideLocalIpsWithMdns',
  // Several tabs share one window: those behind must go on like those in front.
  '--disable-background-timer-throttling', '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding',
];

/** Starts a browser; the test's end closes it. */
export async function browser(t) {
  const executablePath = found();
  if (!executablePath) throw new Error('no Chromium; node scripts/setup.mjs says how to get one');
  const started = await chromium.launch({ executablePath, args: FLAGS });
  t.after(() => started.close());
  return started;
}

/** A new tab in a context of its own. What it throws or logs as an error is collected in `faults`. */
export async function tab(started, options) {
  const context = await started.newContext(options);
  const page = await context.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  return Object.assign(page, { faults });
}

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.wasm': 'application/wasm' };

/** Serves a folder; `extra` maps further paths to texts of HTML. Gives the base address, with a slash at the end. */
export async function serve(t, folder, extra = {}) {
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, 'http://x').pathname);
    const name = path.endsWith('/') ? `${path}index.html` : path;
    try {
      const body = extra[path] ?? (await readFile(join(folder, name)));
      response.writeHead(200, { 'content-type': extra[path] ? 'text/html' : (TYPES[extname(name)] ?? 'application/octet-stream') }).end(body);
    } catch {
      response.writeHead(path === '/favicon.ico' ? 204 : 404).end();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => { server.closeAllConnections(); server.close(); });
  return `http://127.0.0.1:${server.address().port}/`;
}

/** A folder that is gone after the test. */
export async function scratch(t) {
  const folder = await mkdtemp(join(tmpdir(), 'peerage-test-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A running `peerage …`: its JSON lines, its standard input, its end. */
export class Child {
  #lines = [];
  #waiting = [];
  #errors = '';
  #printed = '';

  constructor(t, args, options = {}) {
    if (!existsSync(BINARY)) throw new Error(`${BINARY} is not there; npm run build makes it`);
    this.process = spawn(BINARY, args, { stdio: ['pipe', 'pipe', 'pipe'], ...options });
    this.ended = new Promise((resolve) => this.process.once('exit', (code, signal) => resolve({ code, signal })));
    this.process.stderr.on('data', (data) => { this.#errors = (this.#errors + data).slice(-8000); });
    this.process.stdout.on('data', (data) => { this.#printed = (this.#printed + data).slice(-32_000); });
    createInterface({ input: this.process.stdout }).on('line', (line) => this.#take(line));
    this.ended.then((end) => this.#settle(end));
    t.after(() => this.stop('SIGKILL'));
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

/** A relay on free ports, with what it said when it was ready: `{ child, id, addresses, http }`. */
export async function relay(t, data) {
  const child = new Child(t, [
    '--data', data, 'relay', '--http', '127.0.0.1:0',
    '--listen', '/ip4/127.0.0.1/tcp/0', '--listen', '/ip4/127.0.0.1/tcp/0/ws', '--listen', '/ip4/127.0.0.1/udp/0/webrtc-direct',
  ]);
  return { child, ...(await child.line((line) => line.role === 'relay', 'ready line')) };
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
