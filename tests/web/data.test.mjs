// Domain data from tabs: put, got in another tab and natively, listed, watched, deleted; a manager that is killed meanwhile.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { inMemory } from './evidence.mjs';
import { browser, domain, joined, manage, run, scratch, scripts } from './harness.mjs';

const before = [scripts.withoutWebGl];

/** The hash of an object as a tab reads it, and how long it was. */
const hashed = (page, path) => page.evaluate(async (path) => {
  const body = await window.peerage.domain.data.get(path);
  const bytes = await body.bytes();
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return { length: bytes.length, said: body.entry.length, hash: [...digest].map((b) => b.toString(16).padStart(2, '0')).join('') };
}, path);

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** Bytes of the largest file that the manager with this data directory stores. */
async function stored(data) {
  const folder = join(data, 'manager/objects');
  const sizes = await Promise.all((await readdir(folder)).map(async (name) => (await stat(join(folder, name))).size));
  return Math.max(0, ...sizes);
}

/** Puts so many bytes, made as they are asked for: the tab holds none of it. How many it put. */
const pour = (page, path, size) => page.evaluate(async ([path, size]) => {
  let left = size;
  let seed = 1;
  const stream = new ReadableStream({
    pull(controller) {
      const part = new Uint8Array(Math.min(left, 1 << 20));
      for (let i = 0; i < part.length; i += 64) part[i] = seed = (seed * 1103515245 + 12345) & 255;
      left -= part.length;
      controller.enqueue(part);
      if (left === 0) controller.close();
    },
  });
  return (await window.peerage.domain.data.put(path, stream)).length;
}, [path, size]);

test('tabs and natives put and get the same objects, across a manager that is killed', { timeout: 400_000 }, async (t) => {
  const home = await domain(t);
  const started = await browser(t);
  const a = await joined(started, home.link, { before });
  const b = await joined(started, home.link, { before });
  const native = await scratch(t);

  await t.test('what a tab puts another tab and a native participant get', async () => {
    const marker = randomBytes(48).toString('base64url');
    const entry = await a.evaluate(async (marker) => {
      const told = [];
      const blob = new Blob([marker.repeat(5_000)], { type: 'text/plain' });
      const put = await window.peerage.domain.data.put(`notes/${marker}`, blob, { meta: { about: marker }, onProgress: (p) => told.push(p) });
      return { ...put, written: put.written.getTime(), told };
    }, marker);
    const { told, ...rest } = entry;
    assert.deepEqual(told.at(-1), { done: 320_000, total: 320_000 });
    assert.deepEqual([rest.version, rest.type, rest.length, rest.meta, rest.author], [1, 'text/plain', 320_000, { about: marker }, a.node]);
    const content = Buffer.from(marker.repeat(5_000));
    assert.deepEqual(await hashed(b, rest.path), { length: 320_000, said: 320_000, hash: sha256(content) });
    const got = join(native, 'got');
    await run('--data', native, 'data', '--link', home.link, 'get', rest.path, got);
    assert.ok(content.equals(await readFile(got)));
    const part = await b.evaluate(async (path) => (await window.peerage.domain.data.get(path, { range: [64, 130] })).text(), rest.path);
    assert.equal(part, content.subarray(64, 130).toString());
    // The manager has it nowhere, and does have its relay's id.
    const needles = { marker: Buffer.from(marker), relay: Buffer.from(home.relay.id) };
    for (const name of await readdir(join(home.data, 'manager/objects'))) {
      assert.ok(!(await readFile(join(home.data, 'manager/objects', name))).includes(marker), name);
    }
    assert.ok(!(await readFile(home.records.manager)).includes(marker));
    assert.deepEqual((await inMemory(home.manager.child.pid, needles)).found, ['relay']);
  });

  await t.test('what a native participant puts a tab hears of, gets and replaces; nobody replaces one unseen', async () => {
    const content = randomBytes(3_000_000);
    await writeFile(join(native, 'scan'), content);
    const heard = b.evaluate(async () => {
      for await (const { entry } of window.peerage.domain.data.watch({ prefix: 'scans/' })) if (entry.version === 2) return entry.path;
    });
    await run('--data', native, 'data', 'put', join(native, 'scan'), 'scans/hall');
    assert.deepEqual(await hashed(a, 'scans/hall'), { length: content.length, said: content.length, hash: sha256(content) });
    const conflict = await a.evaluate(async () => {
      const { data } = window.peerage.domain;
      const codes = [];
      for (const ifVersion of [null, 7]) await data.put('scans/hall', new Uint8Array(3), { ifVersion }).catch((e) => codes.push(e.code));
      await data.put('scans/hall', new Uint8Array([1, 2, 3]), { ifVersion: 1 });
      const versions = [];
      for await (const { version } of data.history('scans/hall')) versions.push(version);
      await data.delete('scans/hall', { ifVersion: 2 });
      const left = [];
      for await (const { path } of data.list({ prefix: 'scans/' })) left.push(path);
      await data.get('scans/hall').catch((e) => codes.push(e.code));
      return { codes, versions, left };
    });
    assert.deepEqual(conflict, { codes: ['conflict', 'conflict', 'no-object'], versions: [2, 1], left: [] });
    assert.equal(await heard, 'scans/hall');
  });

  await t.test('a put from a tab goes on when the manager was killed in the middle', async () => {
    const size = 64 * 1024 * 1024;
    const putting = pour(a, 'large', size);
    while (await stored(home.data) < size / 2) await new Promise((resolve) => setTimeout(resolve, 20));
    await home.manager.child.stop('SIGKILL');
    home.manager = await manage(t, home);
    assert.equal(await putting, size);
    const [there, here] = await Promise.all([hashed(b, 'large'), hashed(a, 'large')]);
    assert.equal(there.length, size);
    assert.deepEqual(there, here);
  });

  await t.test('and at a manager that stands by, when the other is killed and does not come back', async () => {
    const size = 64 * 1024 * 1024;
    const [standby, file] = [join(home.folder, 'standby'), join(home.folder, 'appointment')];
    process.env.PEERAGE_PASSPHRASE = 'a passphrase';
    const id = await run('--data', standby, 'manager', '--id');
    await run('--data', home.data, 'domain', 'appoint', id, file);
    await run('--data', standby, 'domain', 'restore', file);
    const record = join(home.folder, 'standby.bin');
    const second = await manage(t, { data: standby, relays: home.relays, more: ['--record', record] });
    await home.manager.child.line((line) => line.event === 'followed' && line.by === id, 'word that it has a follower', 60_000);
    const before = (await stat(record)).size;
    const putting = pour(a, 'larger', size);
    // Everything that was stored earlier is there already.
    while ((await stat(record)).size - before < size / 2) await new Promise((resolve) => setTimeout(resolve, 20));
    await home.manager.child.stop('SIGKILL');
    await second.child.line((line) => line.event === 'leads', 'word that it leads', 60_000);
    assert.equal(await putting, size);
    const heard = (await stat(record)).size - before;
    assert.ok(heard < size * 1.4, `${heard} of ${size} bytes came to the standby: some twice`);
    const [there, here] = await Promise.all([hashed(b, 'larger'), hashed(b, 'large')]);
    assert.deepEqual({ ...there, said: 0 }, { ...here, said: 0 });
  });
});
