// The npm package as others get it: packed, unpacked into a project, used from Vite and from a plain page, with no plugin.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cp, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { at } from '../../scripts/lib.mjs';
import { browser, scratch, serve, tab } from './harness.mjs';

// Loads the wasm file, calls into it, starts a node and stops it.
const USE = `
 try {
  await init();
  const svg = qr('https://example.org/#x');
  const node = await Node.start();
  const id = node.id;
  let code;
  try { await node.join('not an invitation'); } catch (error) { code = error instanceof PeerageError ? error.code : String(error); }
  await node.close();
  window.result = { svg: svg.includes('<svg'), id, code };
 } catch (error) {
  window.result = { failed: String(error) };
 }
`;

/** A project with the packed package in its node_modules. */
async function project(t) {
  const folder = await scratch(t);
  const tarball = execFileSync('npm', ['pack', at('pkg'), '--pack-destination', folder, '--silent'], { encoding: 'utf8' }).trim().split('\n').pop();
  execFileSync('tar', ['xzf', join(folder, tarball), '-C', folder]);
  await mkdir(join(folder, 'node_modules'));
  await cp(join(folder, 'package'), join(folder, 'node_modules/peerage'), { recursive: true });
  await writeFile(join(folder, 'package.json'), '{"type":"module"}');
  return folder;
}

async function expectUsed(t, url) {
  const page = await tab(await browser(t));
  await page.goto(url);
  await page.waitForFunction(() => window.result, null, { timeout: 30_000 }).catch((error) => assert.fail(`${error.message}\n${page.faults.join('\n')}`));
  const { svg, id, code, failed } = await page.evaluate(() => window.result);
  assert.equal(failed, undefined);
  assert.equal(svg, true);
  assert.match(id, /^12D3KooW/);
  assert.equal(code, 'invite-garbled');
  assert.deepEqual(page.faults, []);
}

test('a plain page uses the package with a module script', async (t) => {
  const folder = await project(t);
  const html = `<!doctype html><script type="module">import { Node, PeerageError, init, qr } from '/node_modules/peerage/dist/index.js';${USE}</script>`;
  await expectUsed(t, `${await serve(t, folder, { '/plain.html': html })}plain.html`);
});

test('Vite builds it with no plugin', async (t) => {
  const folder = await project(t);
  await writeFile(join(folder, 'index.html'), '<!doctype html><script type="module" src="/main.js"></script>');
  await writeFile(join(folder, 'main.js'), `import { Node, PeerageError, init, qr } from 'peerage';\nasync function main() {${USE}}\nmain();\n`);
  const { build } = await import('vite');
  await build({ root: folder, configFile: false, logLevel: 'warn', build: { outDir: 'out' } });
  const assets = await readdir(join(folder, 'out/assets'));
  assert.equal(assets.filter((name) => name.endsWith('.wasm')).length, 1, 'the wasm file is emitted once');
  await expectUsed(t, await serve(t, join(folder, 'out')));
});

test('the inline entry needs no second file', async (t) => {
  const folder = await project(t);
  await writeFile(join(folder, 'main.js'), `import { Node, PeerageError, init, qr } from 'peerage/inline';\nasync function main() {${USE}}\nmain();\n`);
  const { build } = await import('esbuild');
  const result = await build({ absWorkingDir: folder, entryPoints: ['main.js'], bundle: true, format: 'esm', write: false, logLevel: 'warning' });
  const html = `<!doctype html><script type="module">${result.outputFiles[0].text.replaceAll('</script', '<\\/script')}</script>`;
  await expectUsed(t, `${await serve(t, join(folder, 'node_modules'), { '/one.html': html })}one.html`);
});

test('importing it on a server does nothing, and starting there says why not', async (t) => {
  const folder = await project(t);
  await writeFile(join(folder, 'server.mjs'), "import { Node } from 'peerage';\nawait Node.start().catch((error) => console.log(error.code, '|', error.hint));\n");
  assert.match(execFileSync(process.execPath, ['server.mjs'], { cwd: folder, encoding: 'utf8' }), /^unsupported \| Start the node in a browser tab/);
});

test('its types are complete', async (t) => {
  const folder = await project(t);
  await writeFile(join(folder, 'use.ts'), `
    import { Node, json, type Participant } from 'peerage';
    import { grid, occupancy, type Grid } from 'peerage/occupancy';
    export async function use(link: string): Promise<Participant[]> {
      const node = await Node.start({ relays: [] });
      const domain = await node.join(link, { profile: { name: 'Ada' }, capabilities: [{ name: 'map/reconstruct', attributes: { gpu: true } }] });
      domain.addEventListener('degraded', ({ detail }) => detail.capability.length);
      const chat = domain.channel('chat', { codec: json<{ text: string }>() });
      chat.on((value, { from }) => value.text + from);
      await chat.send({ text: 'x' }, { to: node.id });
      for await (const { value, sentAt } of chat) if (value.text.length > sentAt) break;
      // @ts-expect-error a mode that is not there
      domain.channel('x', { mode: 'sometimes' });
      using served = domain.serve('sum', async (job) => (await job.input()).length, { input: json<number[]>(), output: json<number>(), concurrency: 2 });
      const task = domain.request('sum', [1, 2], { input: json<number[]>(), output: json<number>(), where: { exact: true }, timeoutMs: 1_000 });
      for await (const event of task) if (event.type === 'begun') event.supplier.length + event.attempt;
      const sum: number = await task;
      const made: Grid = grid(await domain.request('map/occupancy', new Blob([])));
      domain.serve('map/occupancy', occupancy({ cell: 0.05 }));
      [...made.cells()].length + sum;
      return domain.participants({ capability: 'map/reconstruct', where: { gpu: true, capacity: { ge: 2 } }, online: true });
    }`);
  const flags = ['--noEmit', '--strict', '--target', 'es2022', '--module', 'esnext', '--moduleResolution', 'bundler', '--lib', 'es2022,dom,esnext.disposable', '--types', '', 'use.ts'];
  try {
    execFileSync(process.execPath, [at('node_modules/typescript/bin/tsc'), ...flags], { cwd: folder, encoding: 'utf8' });
  } catch (error) {
    assert.fail(error.stdout);
  }
});

test('the package stays small', async () => {
  const { gzipSync } = await import('node:zlib');
  const size = (bytes) => gzipSync(bytes, { level: 9 }).length;
  const wasm = size(await readFile(at('pkg/gen/peerage_bg.wasm')));
  const grids = size(await readFile(at('pkg/gen/occupancy_bg.wasm')));
  // The JavaScript as a page loads it: bundled, without comments and long names.
  const { build } = await import('esbuild');
  const bundle = { bundle: true, format: 'esm', minify: true, splitting: true, write: false, outdir: 'out' };
  const { outputFiles } = await build({ ...bundle, absWorkingDir: at('.'), entryPoints: ['pkg/dist/index.js'] });
  const js = outputFiles.reduce((sum, { contents }) => sum + size(contents), 0);
  // The aim is 600,000; docs/decisions/0011 says where the rest is.
  assert.ok(wasm <= 992_000, `wasm is ${wasm} bytes gzip, at most 992,000`);
  assert.ok(grids <= 100_000, `the wasm of map/occupancy is ${grids} bytes gzip, at most 100,000`);
  assert.ok(js <= 25_000, `JavaScript is ${js} bytes gzip, at most 25,000`);
});
