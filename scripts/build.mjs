// Builds everything that ships: the wasm file, the TypeScript facade, the page, the release binary. Skips what is up to date.
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { at, entry, fresh, good, heading, run, say } from './lib.mjs';
import { setup } from './setup.mjs';

const RUST = ['src', 'Cargo.toml', 'Cargo.lock'];
const RAW = 'target/wasm32-unknown-unknown/wasm/peerage.wasm';
const WASM = 'pkg/gen/peerage_bg.wasm';
const OCCUPANCY = 'pkg/gen/occupancy_bg.wasm';
// What rustc 1.95 lets a wasm32 module use, and every browser since 2023 has.
const FEATURES = ['bulk-memory', 'bulk-memory-opt', 'sign-ext', 'mutable-globals', 'nontrapping-float-to-int', 'reference-types', 'multivalue'];

/** A browser file of the crate with one feature: `gen/NAME.js` and `gen/NAME_bg.wasm`. */
async function browserFile(name, feature) {
  // Where the builder keeps sources is nobody's business, and takes room: panics name files.
  const homes = [[join(process.env.CARGO_HOME ?? join(homedir(), '.cargo'), 'registry/src'), ''], [at(), '']];
  const flags = homes.map(([from, to]) => `"--remap-path-prefix=${from}=${to}"`);
  const remap = ['--config', `target.wasm32-unknown-unknown.rustflags=[${flags.join(', ')}]`];
  const features = ['--no-default-features', '--features', feature];
  await run('cargo', ['rustc', ...remap, '--lib', '--crate-type', 'cdylib', '--target', 'wasm32-unknown-unknown', '--profile', 'wasm', '--locked', ...features]);
  say(`wasm-bindgen: ${name}`);
  await run('wasm-bindgen', [at(RAW), '--target', 'web', '--out-dir', at('pkg/gen'), '--out-name', name]);
  // Twice more until nothing changes takes 0.05 % off, and three times as long.
  say('wasm-opt -Oz');
  const [file, optimised] = [at(`pkg/gen/${name}_bg.wasm`), at('target/optimised.wasm')];
  await run(process.execPath, [at('node_modules/binaryen/bin/wasm-opt'), '-Oz', '--strip-producers', '--strip-target-features', ...FEATURES.map((f) => `--enable-${f}`), file, '-o', optimised]);
  copyFileSync(optimised, file);
}

async function wasm() {
  heading('wasm');
  if (fresh(RUST, [WASM, 'pkg/gen/peerage.js', 'pkg/gen/inline.js', 'pkg/gen/occupancy.js', OCCUPANCY])) return good('up to date');
  rmSync(at('pkg/gen'), { recursive: true, force: true });
  mkdirSync(at('pkg/gen'), { recursive: true });
  await browserFile('occupancy', 'wasm-occupancy');
  await browserFile('peerage', 'wasm');
  const base64 = readFileSync(at(WASM)).toString('base64');
  writeFileSync(at('pkg/gen/inline.js'), `export const base64 = "${base64}";\n`);
  writeFileSync(at('pkg/gen/inline.d.ts'), 'export declare const base64: string;\n');
}

async function facade() {
  heading('facade (TypeScript)');
  if (fresh(['pkg/src', 'pkg/tsconfig.json', WASM], ['pkg/dist/index.js', 'pkg/dist/inline.js', 'pkg/gen/wordlist.js'])) return good('up to date');
  const { wordlist } = await import('@scure/bip39/wordlists/english.js');
  // They are in order: what a word shares with the one before is only counted, which leaves two thirds to load.
  const shared = (word, before) => [...word].findIndex((letter, i) => letter !== before[i]);
  const told = wordlist.map((word, i) => { const n = shared(word, wordlist[i - 1] ?? ''); return n + word.slice(n); });
  const read = '.match(/\\d\\D+/g).map((word) => (last = last.slice(0, word[0]) + word.slice(1)))';
  writeFileSync(at('pkg/gen/wordlist.js'), `// The English words of BIP 39.\nlet last = '';\nexport const wordlist = '${told.join('')}'${read};\n`);
  writeFileSync(at('pkg/gen/wordlist.d.ts'), 'export declare const wordlist: string[];\n');
  rmSync(at('pkg/dist'), { recursive: true, force: true });
  await run(process.execPath, [at('node_modules/typescript/bin/tsc'), '-p', 'pkg/tsconfig.json']);
  good('pkg/dist');
}

async function page() {
  heading('page');
  if (fresh(['www/src', 'www/index.html', 'www/style.css', 'www/tsconfig.json', 'pkg/dist', WASM], ['www/dist/index.html', 'www/dist/app.js'])) return good('up to date');
  await run(process.execPath, [at('node_modules/typescript/bin/tsc'), '-p', 'www/tsconfig.json']);
  rmSync(at('www/dist'), { recursive: true, force: true });
  mkdirSync(at('www/dist'), { recursive: true });
  const { build } = await import('esbuild');
  const common = { bundle: true, format: 'esm', target: 'es2022', minify: true, sourcemap: false, logLevel: 'warning', absWorkingDir: at() };
  // three.js in a file of its own: the page joins before the room is drawn.
  await build({ ...common, entryPoints: { app: 'www/src/main.ts' }, outdir: 'www/dist', splitting: true, chunkNames: 'part-[hash]' });
  for (const name of ['index.html', 'style.css', 'icon.svg']) copyFileSync(at('www', name), at('www/dist', name));
  for (const file of [WASM, OCCUPANCY]) copyFileSync(at(file), at('www/dist', basename(file)));
  good('www/dist');
}

async function binary() {
  heading('release binary');
  await run('cargo', ['build', '--release', '--locked', '--bin', 'peerage']);
}

function sizes() {
  heading('sizes');
  const row = (name, bytes) => {
    const kb = (n) => `${(n / 1000).toFixed(1)} KB`.padStart(11);
    console.log(`  ${name.padEnd(26)} raw ${kb(bytes.length)}   gzip ${kb(gzipSync(bytes, { level: 9 }).length)}   brotli ${kb(brotliCompressSync(bytes).length)}`);
  };
  row('wasm', readFileSync(at(WASM)));
  row('JavaScript (package)', Buffer.concat(['pkg/gen/peerage.js', ...readdirSync(at('pkg/dist')).filter((f) => f.endsWith('.js') && f !== 'inline.js').map((f) => `pkg/dist/${f}`)].map((f) => readFileSync(at(f)))));
  row('JavaScript (page)', Buffer.concat(readdirSync(at('www/dist')).filter((f) => f.endsWith('.js')).map((f) => readFileSync(at('www/dist', f)))));
}

/** Builds all, or the parts named: wasm, facade, page, binary. */
export async function build(parts = ['wasm', 'facade', 'page', 'binary']) {
  const steps = { wasm, facade, page, binary };
  for (const part of parts) await steps[part]();
  if (parts.includes('page')) sizes();
}

if (process.argv[1] === at('scripts/build.mjs')) {
  await entry(async () => {
    await setup();
    const parts = process.argv.slice(2);
    await build(parts.length > 0 ? parts : undefined);
  });
}
