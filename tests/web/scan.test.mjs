// Scans on the page: dropped, stored, shown, and turned into occupancy grids by a tab and by a native participant, which agree.
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { browser, Child, domain, joined, run, scratch, scripts, until } from './harness.mjs';
import { bunnyGlb, bunnyObj, dragon } from './scans.mjs';

/** Waits until the page lists a scan. */
const listed = (page, name) => page.waitForSelector(`#scan-list li[data-path="scans/${name}"]`, { timeout: 60_000 });

/** Clicks a scan's button and waits until its line says what is wanted. */
async function press(page, name, button, wanted) {
  const row = page.locator(`#scan-list li[data-path="scans/${name}"]`);
  await row.getByRole('button', { name: button }).click();
  await until(page, ([path, wanted]) => new RegExp(wanted).test(document.querySelector(`#scan-list li[data-path="${path}"] .facts`).textContent), [`scans/${name}`, wanted], `${name} says nothing of ${wanted}`);
  return row.locator('.facts').textContent();
}

const open = (page) => page.click('[data-panel="scans"]');

test('a person drops scans, asks for their grids, and sees both', { timeout: 400_000 }, async (t) => {
  const home = await domain(t);
  const started = await browser(t);
  // Fifty thousand cubes are too much for a renderer in software.
  const a = await joined(started, home.link, { name: 'ann', before: [scripts.withoutWebGl] });
  const b = await joined(started, home.link, { name: 'bea', before: [scripts.withoutWebGl] });
  await open(a);
  await open(b);

  await t.test('what is dropped everybody sees listed and can look at', async () => {
    await a.setInputFiles('#scan-file', [
      { name: 'dragon.ply', mimeType: 'application/octet-stream', buffer: await dragon() },
      { name: 'bunny.obj', mimeType: 'text/plain', buffer: bunnyObj() },
    ]);
    // By dropping, as a person does.
    await b.evaluate((base64) => {
      const files = new DataTransfer();
      files.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], 'bunny.glb'));
      files.items.add(new File(['x'], 'notes.txt'));
      document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true }));
    }, bunnyGlb().toString('base64'));
    for (const name of ['dragon.ply', 'bunny.obj', 'bunny.glb']) for (const page of [a, b]) await listed(page, name);
    assert.match(await press(b, 'dragon.ply', 'Show', 'vertices'), /5,205 vertices/);
    assert.match(await press(a, 'bunny.glb', 'Show', 'vertices'), /1,839 vertices/);
    assert.equal(await a.locator('#scan-list li').count(), 3, 'what is no scan is not stored');
  });

  const grids = {};
  await t.test('a tab that helps makes the grids of another', async () => {
    await b.check('#scan-help');
    await until(a, () => window.peerage.domain.participants({ capability: 'map/occupancy' }).length === 1, null, 'nobody offers it');
    grids.dragon = await press(a, 'dragon.ply', 'Grid', 'occupied');
    assert.match(grids.dragon, /^128 × 91 × 58 cells, 39,597 occupied, by bea$/);
    grids.obj = await press(a, 'bunny.obj', 'Grid', 'occupied');
    grids.glb = await press(a, 'bunny.glb', 'Grid', 'occupied');
    assert.match(grids.obj, /^128 × \d+ × \d+ cells, 5\d,\d{3} occupied, by bea$/);
    await b.uncheck('#scan-help');
    await until(a, () => window.peerage.domain.participants({ capability: 'map/occupancy' }).length === 0, null, 'it is offered still');
  });

  await t.test('a native participant makes the same', async () => {
    const native = new Child(t, ['--data', await scratch(t), 'join', home.link, '--name', 'robot', '--serve', 'map/occupancy']);
    await native.line((line) => line.event === 'joined', 'joined');
    await until(a, () => window.peerage.domain.participants({ capability: 'map/occupancy' }).length === 1, null, 'nobody offers it');
    for (const [name, of] of [['dragon.ply', 'dragon'], ['bunny.obj', 'obj'], ['bunny.glb', 'glb']]) {
      assert.equal(await press(a, name, 'Grid', 'by robot'), grids[of].replace('bea', 'robot'));
    }
    // Natively asked for, with all its bytes, a larger one, and one that is no scan.
    const folder = await scratch(t);
    await writeFile(join(folder, 'in.ply'), await dragon('2'));
    await run('--data', folder, 'task', '--link', home.link, 'request', 'map/occupancy', join(folder, 'in.ply'), join(folder, 'out'));
    const grid = await readFile(join(folder, 'out'));
    assert.deepEqual([grid.toString('latin1', 0, 4), grid.readUInt32LE(8), grid.readUInt32LE(36)], ['PGOC', 128, 41_424]);
    await writeFile(join(folder, 'in.ply'), 'no scan');
    await assert.rejects(run('--data', folder, 'task', '--link', home.link, 'request', 'map/occupancy', join(folder, 'in.ply'), join(folder, 'out')), /neither PLY nor OBJ nor GLB/);
  });

  await t.test('they are drawn, and the page fits a phone', async () => {
    const c = await joined(started, home.link, { name: 'cyd' });
    await c.setViewportSize({ width: 390, height: 780 });
    const seen = async () => {
      await c.keyboard.press('Escape');
      await c.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
      const shot = await c.screenshot({ clip: { x: 60, y: 150, width: 270, height: 420 } });
      await open(c);
      return shot.toString('base64');
    };
    // Two narrow plates that cross, seen from wherever it stands: a few hundred cells.
    const plate = [[-1, 0, 0], [1, 0, 0], [1, 0.06, 0], [-1, 0.06, 0], [0, 0, -1], [0, 0, 1], [0, 0.06, 1], [0, 0.06, -1]].map((v) => `v ${v.join(' ')}`);
    const faces = ['f 1 2 3 4', 'f 4 3 2 1', 'f 5 6 7 8', 'f 8 7 6 5'];
    await b.setInputFiles('#scan-file', { name: 'plate.obj', mimeType: 'text/plain', buffer: Buffer.from([...plate, ...faces, ''].join('\n')) });
    await open(c);
    await listed(c, 'plate.obj');
    const empty = await seen();
    assert.match(await press(c, 'plate.obj', 'Show', 'vertices'), /24 vertices/);
    const scan = await seen();
    await press(c, 'plate.obj', 'Grid', 'occupied, by robot');
    const grid = await seen();
    if (process.env.PEERAGE_TEST_SHOT) {
      await c.keyboard.press('Escape');
      await c.screenshot({ path: process.env.PEERAGE_TEST_SHOT });
      await open(c);
    }
    assert.ok(empty !== scan && scan !== grid, 'the scan and its grid are in the picture');
    const [wide, panel] = await c.evaluate(() => [document.documentElement.scrollWidth, document.getElementById('scans').getBoundingClientRect().right]);
    assert.ok(wide <= 390 && panel <= 390, `${wide} and ${panel} of 390 pixels`);
  });
});
