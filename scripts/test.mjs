// `npm test`: every stage in order, a summary at the end. `npm test -- web wire` runs the stages so named.
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { at, chromium, entry, good, heading, say, status, Trouble } from './lib.mjs';
import { setup } from './setup.mjs';
import { build } from './build.mjs';

const cargo = (...args) => () => status('cargo', args);
const clippy = (...args) => cargo('clippy', '--all-targets', '--locked', ...args, '--', '-D', 'warnings');

/** What the browser stages say of tests that failed, to be said again at the end. */
const FAILURES = 'target/failures';

function node(folder, pattern = /\.test\.mjs$/, { minutes = 10, env = {} } = {}) {
  return async () => {
    const files = existsSync(at('tests', folder)) ? readdirSync(at('tests', folder)).filter((f) => pattern.test(f)).sort() : [];
    if (files.length === 0) throw new Trouble(`tests/${folder} has no such tests`);
    // One file at a time: each has browsers and a binary of its own, and two cores are all there may be.
    const reporters = ['--test-reporter=spec', '--test-reporter-destination=stdout', `--test-reporter=${at('scripts/failures.mjs')}`, `--test-reporter-destination=${at(FAILURES, `${folder}-${Date.now()}`)}`];
    const args = ['--test', '--test-concurrency=1', `--test-timeout=${minutes * 60_000}`, ...reporters, ...files.map((f) => at('tests', folder, f))];
    return status(process.execPath, args, { env: { CHROMIUM: chromium(), ...env } });
  };
}

const wasm = ['--no-default-features', '--target', 'wasm32-unknown-unknown'];
const stages = [
  ['format', 'cargo fmt', async () => (await cargo('fmt', '--check')()) || cargo('fmt', '--check', '--manifest-path', 'fuzz/Cargo.toml')()],
  ['clippy-core', 'clippy, core without features', clippy('--no-default-features')],
  ['clippy-native', 'clippy, native', clippy()],
  ['clippy-wasm', 'clippy, browser', cargo('clippy', '--lib', '--locked', ...wasm, '--features', 'wasm', '--', '-D', 'warnings')],
  ['rust', 'cargo test: core, simulator, native', cargo('test', '--locked', '--no-fail-fast')],
  // What they do is among the tests above: here it is that they build by themselves.
  ['fuzz', 'fuzz targets', cargo('check', '--locked', '--all-targets', '--manifest-path', 'fuzz/Cargo.toml', '--target-dir', 'target')],
  ['wire', 'format vectors in wasm', () => status('cargo', ['test', '--locked', ...wasm, '--test', 'wire'], {
    env: { CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER: 'wasm-bindgen-test-runner' },
  })],
  ['build', 'build', async () => (await build(), 0)],
  ['package', 'npm package in Vite and in a plain page', node('web', /^package\.test\.mjs$/)],
  ['net', 'machines in network namespaces', node('net')],
  ['web', 'browser tabs and the release binary', node('web', /^(?!package).*\.test\.mjs$/)],
  ['interop', 'interoperation with js-libp2p', node('interop')],
  // `npm run soak` sends more, and lets tabs sleep longer.
  ['soak', 'ten tabs and three native participants, to which everything happens', node('soak', undefined, { minutes: 20, env: { PEERAGE_TEST_MIB: '0.25', PEERAGE_TEST_FROZEN: '40' } })],
];

await entry(async () => {
  const wanted = process.argv.slice(2);
  const unknown = wanted.filter((name) => !stages.some(([key]) => key === name));
  if (unknown.length > 0) throw new Trouble(`no such stage: ${unknown.join(', ')}; there are ${stages.map(([key]) => key).join(', ')}`);
  heading('tools');
  await setup({ tests: true });
  rmSync(at(FAILURES), { recursive: true, force: true });
  mkdirSync(at(FAILURES), { recursive: true });
  const failed = [];
  let passed = 0;
  for (const [key, title, stage] of stages) {
    if (wanted.length > 0 && !wanted.includes(key)) continue;
    heading(`${key}: ${title}`);
    const start = Date.now();
    const code = await Promise.resolve(stage()).catch((error) => (console.error(error instanceof Trouble ? error.message : error), 1));
    const seconds = `${((Date.now() - start) / 1000).toFixed(0)} s`;
    if (code === 0) { passed += 1; good(`${key} (${seconds})`); } else { failed.push(key); say(`${key} FAILED (${seconds})`); }
    // Later stages run what this one makes.
    if (code !== 0 && key === 'build') break;
  }
  heading('summary');
  for (const file of readdirSync(at(FAILURES))) process.stdout.write(readFileSync(at(FAILURES, file)));
  if (failed.length > 0) console.log(`failed: ${failed.join(', ')}`);
  console.log(`${passed} passed, ${failed.length} failed`);
  process.exitCode = failed.length > 0 ? 1 : 0;
});
