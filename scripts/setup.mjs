// Checks what building and testing need, installs what it can, and says exactly how for the rest.
import { existsSync } from 'node:fs';
import { at, chromium, entry, fresh, good, locked, output, run, say, Trouble, which } from './lib.mjs';

function rust() {
  if (!which('cargo')) {
    throw new Trouble("Rust is missing. Install it with: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y   (then run this again)");
  }
  good(output('cargo', ['--version']) ?? 'cargo');
}

async function wasmTarget() {
  const target = 'wasm32-unknown-unknown';
  if (existsSync(`${output('rustc', ['--print', 'sysroot'])}/lib/rustlib/${target}`)) return;
  if (!which('rustup')) throw new Trouble(`The Rust target ${target} is missing and rustup is not there to add it; install it with your system's packages (Debian: libstd-rust-dev-wasm32)`);
  say(`adding the Rust target ${target}`);
  await run('rustup', ['target', 'add', target]);
}

async function wasmBindgen() {
  const version = locked('wasm-bindgen');
  const has = (tool) => output(tool, ['--version'])?.split(' ')[1] === version;
  if (!has('wasm-bindgen') || !has('wasm-bindgen-test-runner')) {
    say(`building the wasm-bindgen ${version} tools into target/tools (once, one to three minutes)`);
    await run('cargo', ['install', 'wasm-bindgen-cli', '--version', version, '--locked', '--root', at('target/tools')]);
  }
  good(`wasm-bindgen ${version}`);
}

async function npmPackages() {
  if (fresh(['package-lock.json'], ['node_modules/.package-lock.json'])) return;
  say('installing npm packages');
  await run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
}

/** What only tests need, with locks of its own, so that nobody else waits for it. No package's scripts run. */
async function testPackages() {
  for (const [name, what] of [['interop', 'js-libp2p'], ['scans', 'two real scans']]) {
    const folder = `tests/${name}`;
    if (fresh([`${folder}/package-lock.json`], [`${folder}/node_modules/.package-lock.json`])) continue;
    say(`installing ${what} for the tests`);
    await run('npm', ['ci', '--prefix', at(folder), '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']);
  }
}

/** Whether Debian's packages can be installed here. */
const debian = () => process.getuid?.() === 0 && Boolean(which('apt-get'));

async function debianPackage(name) {
  say(`installing ${name} with apt-get`);
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  await run('apt-get', ['update', '-qq'], { env });
  await run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', name], { env });
}

/** What tests of machines behind routers need. They are skipped without. */
async function routers() {
  if (which('nft')) return;
  const installed = debian() && (await debianPackage('nftables').then(() => true, () => false));
  if (!installed) say('nftables is missing: the tests of routers will be skipped (Debian: sudo apt-get install nftables)');
}

async function browser() {
  if (!chromium()) {
    if (!debian()) {
      throw new Trouble('Chromium is missing; the browser tests need it. Install it (Debian: sudo apt-get install chromium) or set CHROMIUM=/path/to/chrome');
    }
    await debianPackage('chromium');
    if (!chromium()) throw new Trouble('apt-get installed no chromium; set CHROMIUM=/path/to/chrome');
  }
  if (!existsSync(chromium())) throw new Trouble(`CHROMIUM names ${chromium()}, which is not there`);
  good(`Chromium at ${chromium()}`);
}

/** Makes sure of the tools. `tests` adds what only the tests need. */
export async function setup({ tests = false } = {}) {
  rust();
  await wasmTarget();
  await npmPackages();
  await wasmBindgen();
  if (tests) {
    await testPackages();
    await browser();
    await routers();
  }
}

if (process.argv[1] === at('scripts/setup.mjs')) {
  await entry(() => setup({ tests: true }));
}
