// `npm run bench`: everything under benches/, then a table of what sealing costs natively and in wasm, as ratios.
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { at, entry, environment, heading, run, say, Trouble } from './lib.mjs';
import { setup } from './setup.mjs';

const core = ['--no-default-features', '--locked'];
const bench = (...args) => run('cargo', ['bench', ...core, ...args]);

/** The fastest sample of each native operation, in nanoseconds: what other work on the machine disturbs least. */
function native() {
  const folder = at('target/criterion/ops');
  const found = new Map();
  for (const name of readdirSync(folder).filter((n) => n !== 'report')) {
    const read = (file) => JSON.parse(readFileSync(`${folder}/${name}/new/${file}.json`, 'utf8'));
    const { iters, times } = read('sample');
    found.set(read('benchmark').function_id, Math.min(...times.map((t, i) => t / iters[i])));
  }
  return found;
}

/** The same operations in wasm, under node, built with the profile that ships. */
function wasm() {
  const args = ['test', ...core, '--profile', 'wasm', '--target', 'wasm32-unknown-unknown', '--bench', 'wasm', '--', '--nocapture'];
  const env = { ...environment, CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER: 'wasm-bindgen-test-runner' };
  const result = spawnSync('cargo', args, { cwd: at(), encoding: 'utf8', env, maxBuffer: 1 << 26, stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = (result.stdout ?? '').split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  if (result.status !== 0 || lines.length === 0) throw new Trouble(`the wasm bench failed:\n${result.stdout}`);
  return lines;
}

function table(native, wasm) {
  const time = (ns) => (ns === undefined ? '?' : ns < 1e6 ? `${(ns / 1e3).toFixed(1)} µs` : `${(ns / 1e6).toFixed(2)} ms`);
  const ratio = (a, b) => (a && b ? `${(a / b).toFixed(2)}x` : '');
  const wasmTimes = new Map(wasm.map((op) => [op.name, op.ns]));
  const sum = (times, names) => names.reduce((all, name) => all + (times.get(name) ?? NaN), 0);
  const row = (...cells) => console.log(cells.map((c, i) => (i === 0 ? c.padEnd(30) : c.padStart(12))).join(''));
  row('', 'native', '/ parts', 'wasm', '/ parts', 'wasm/native');
  for (const { name, ns, against } of wasm) {
    const n = native.get(name);
    row(name, time(n), ratio(n, sum(native, against)), time(ns), ratio(ns, sum(wasmTimes, against)), ratio(ns, n));
  }
  say('parts: the plain primitives an operation cannot do without, measured in the same run (a leap: one verification)');
}

await entry(async () => {
  await setup();
  heading('native');
  await bench('--bench', 'seal', '--bench', 'directory');
  await bench('--features', 'sim', '--bench', 'join');
  heading('stored objects');
  await run('cargo', ['bench', '--locked', '--bench', 'objects', '--bench', 'data']);
  heading('tasks');
  await run('cargo', ['bench', '--locked', '--bench', 'tasks']);
  heading('wasm');
  const measured = wasm();
  heading('sealing');
  table(native(), measured);
});
