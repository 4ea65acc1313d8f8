// Tabs that come back: reloaded, closed, crashed, with and without a relay, several of one browser. Whoever comes back is the same
// participant, with no invitation, and nobody else sees a second one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { again, browser, carry, Child, direct, domain, joined, opened, posed, scratch, scripts, settled, until } from './harness.mjs';

const before = [scripts.withoutWebGl];

/** Who is there, by a tab's own directory: everybody it ever heard of but the manager. */
const everybody = (page) => page.evaluate(() => window.peerage.domain.participants().filter((p) => p.role === 'participant').map((p) => p.id).sort());

/** Waits until a tab lists exactly these as online, and its page shows them. */
const lists = (page, ids) => until(page, (ids) => {
  const here = window.peerage.domain.participants({ online: true }).filter((p) => p.role === 'participant').map((p) => p.id).sort();
  const shown = [...document.querySelectorAll('#list li')].map((li) => li.dataset.id).filter((id) => ids.includes(id)).sort();
  return here.join() === ids.join() && shown.join() === ids.join();
}, [...ids].sort(), 'the list is another one');

const named = (page) => page.evaluate(() => window.peerage.domain.self.name);

/** Reloads a tab; how long it took until it was in the domain, ms. */
async function reload(page) {
  const start = Date.now();
  await page.reload();
  await settled(page);
  assert.equal(await page.getAttribute('html', 'data-state'), 'joined', await page.textContent('#gate'));
  return Date.now() - start;
}

/** What the browser keeps of the package: names and bytes of its records, and whether the key above them can be read. */
const kept = (page) => page.evaluate(async () => {
  const result = (request) => new Promise((resolve, reject) => { request.onsuccess = () => resolve(request.result); request.onerror = reject; });
  const database = await result(indexedDB.open('peerage'));
  const all = (store) => database.transaction(store).objectStore(store);
  const [keys, values, device] = [await result(all('records').getAllKeys()), await result(all('records').getAll()), await result(all('keys').get('device'))];
  database.close();
  return { records: keys.map((key, i) => [key, [...values[i]]]), extractable: device.extractable };
});

test('whoever reloads is the same participant', { timeout: 540_000 }, async (t) => {
  // Each invitation lets one in: who came back by it as somebody else would be refused.
  const home = await domain(t, { invites: [['--uses', '1'], ['--uses', '1'], ['--uses', '1'], ['--uses', '1']] });
  const started = await browser(t);
  const a = await joined(started, home.links[0], { before });
  let b = await joined(started, home.links[1], { before });
  const context = b.context();
  const native = new Child(t, ['--data', await scratch(t), 'join', home.links[2]]);
  const { node: nativeId } = await native.line((line) => line.event === 'joined', 'word that it joined');
  const all = [a.node, b.node, nativeId];
  for (const page of [a, b]) await lists(page, all);
  await a.evaluate(() => {
    window.heard = [];
    window.peerage.domain.addEventListener('participant', ({ detail }) => window.heard.push(detail));
  });
  const identity = b.node;
  const name = await named(b);
  // Who was there for a while, and is still in the directory as one who left.
  const once = [];

  /** After `b` came back: it is who it was, everybody lists everybody once, and what they send arrives. */
  const same = async (page) => {
    assert.equal(page.node, identity);
    assert.equal(await named(page), name);
    for (const one of [a, page]) await lists(one, all);
    assert.deepEqual((await everybody(a)).filter((id) => !once.includes(id)), [...all].sort());
    await direct(page, [a.node]);
    await posed(a, page);
    await posed(page, a);
    const channel = `large ${Math.random()}`;
    await carry(a, page, 1 << 20, channel);
    await carry(page, a, 1 << 20, channel);
  };

  await t.test('reloaded, three times over', async (t) => {
    for (let i = 0; i < 3; i += 1) {
      t.diagnostic(`in the domain again after ${await reload(b)} ms`);
      assert.equal(await b.evaluate(() => location.hash + sessionStorage.getItem('peerage.invitation')), 'null');
      await same(b);
    }
    const others = await a.evaluate((all) => window.heard.filter(({ id }) => !all.includes(id)), [...all, home.manager.id]);
    assert.deepEqual(others, [], 'somebody else was heard of');
  });

  await t.test('what the browser keeps of it is sealed under a key that cannot be read', async () => {
    const id = await b.evaluate(() => window.peerage.domain.id);
    const names = [...['contacts', 'keys', 'state', 'statements', 'storage'].map((part) => `domain/${id}/${part}`), 'identity'];
    const end = Date.now() + 30_000;
    // The storage keys come when the page has reached the manager.
    let found;
    do found = await kept(b); while (found.records.length < names.length && Date.now() < end);
    const { records, extractable } = found;
    assert.equal(extractable, false);
    assert.deepEqual(records.map(([key]) => key), names.map((name) => [0, name]));
    for (const [key, bytes] of records) {
      const text = Buffer.from(bytes).toString('latin1');
      for (const clear of ['peerage', 'the workshop', '/ip4/', '127.0.0.1']) assert.ok(!text.includes(clear), `${key}: ${clear}`);
    }
  });

  await t.test('closed and opened without the link, in another tab', async () => {
    await b.close();
    await lists(a, all.filter((id) => id !== identity));
    b = await joined(started, home.page, { before, context });
    await same(b);
  });

  await t.test('crashed, with no time to say goodbye', async (t) => {
    const devtools = await context.newCDPSession(b);
    const crashed = new Promise((resolve) => b.once('crash', resolve));
    devtools.send('Page.crash').catch(() => undefined);
    await crashed;
    const start = Date.now();
    await b.close();
    b = await joined(started, home.page, { before, context });
    await same(b);
    t.diagnostic(`back, listed and heard after ${Date.now() - start} ms`);
  });

  await t.test('while the relay is away, and after another process took its place', async (step) => {
    await home.relay.child.stop('SIGKILL');
    step.diagnostic(`without a relay: in the domain again after ${await reload(b)} ms`);
    assert.equal(b.node, identity);
    const start = Date.now();
    await again(t, home.relay);
    await lists(b, all);
    await lists(a, all);
    step.diagnostic(`everybody listed ${Date.now() - start} ms after the relay was back`);
    await same(b);
    await reload(b);
    await same(b);
  });

  await t.test('a second tab of the same browser is somebody else, and each comes back as itself', async () => {
    const second = await joined(started, home.links[3], { before, context });
    assert.notEqual(second.node, identity);
    assert.equal(await second.evaluate(() => window.peerage.node.identity), 'persistent');
    const four = [...all, second.node];
    for (const page of [a, b, second]) await lists(page, four);
    const other = second.node;
    once.push(other);
    await Promise.all([reload(b), reload(second)]);
    assert.deepEqual([b.node, second.node], [identity, other]);
    for (const page of [a, b, second]) await lists(page, four);
    await second.close();
    await lists(a, all);
  });

  await t.test('a tab that waits for the first identity takes over when that tab is closed', async () => {
    // It comes as the second tab did, and lays that down.
    const waiting = await joined(started, home.page, { before, context });
    await waiting.evaluate(() => {
      const { node } = window.peerage;
      node.close().then(() => node.constructor.start({ taken: 'wait' })).then((node) => { window.next = node; });
    });
    await waiting.waitForTimeout(500);
    assert.equal(await waiting.evaluate(() => window.next?.id), undefined);
    const given = await waiting.evaluate(() => window.peerage.node.constructor.start({ taken: 'wait', signal: AbortSignal.timeout(200) }).catch((e) => e.code));
    assert.equal(given, 'aborted');
    await b.close();
    await until(waiting, (id) => window.next?.id === id, identity, 'it did not take over');
    await waiting.close();
    b = await joined(started, home.page, { before, context });
    await same(b);
  });

  await t.test('what is damaged is said and stays', async () => {
    // Nothing runs in the tab that does the damage, so nobody else writes meanwhile.
    const id = await b.evaluate(() => window.peerage.domain.id);
    await b.close();
    const still = await context.newPage();
    await still.goto(new URL('style.css', home.page).href);
    const damage = () => still.evaluate(async (key) => {
      const result = (request) => new Promise((resolve, reject) => { request.onsuccess = () => resolve(request.result); request.onerror = reject; });
      const database = await result(indexedDB.open('peerage'));
      const store = () => database.transaction('records', 'readwrite').objectStore('records');
      const bytes = await result(store().get(key));
      bytes[bytes.length >> 1] ^= 1;
      await result(store().put(bytes, key));
      database.close();
    }, [0, `domain/${id}/keys`]);
    await damage();
    const state = await kept(still);
    b = await opened(started, home.page, { before, context });
    assert.equal(b.code, 'storage');
    assert.deepEqual((await kept(still)).records, state.records);
    await b.close();
    // The same bit once more.
    await damage();
    await still.close();
    b = await joined(started, home.page, { before, context });
    await same(b);
  });

  await t.test('who forgets the domain has nothing left to come back with', async () => {
    await b.evaluate(() => window.peerage.domain.leave({ forget: true }));
    await lists(a, all.filter((id) => id !== identity));
    assert.deepEqual((await kept(b)).records.filter(([[slot]]) => slot === 0).map(([key]) => key), [[0, 'identity']]);
    await b.reload();
    await settled(b);
    assert.equal(b.code, 'no-invitation');
  });
});

test('where nothing can be kept, a tab is somebody new each time, and says so', { timeout: 120_000 }, async (t) => {
  const home = await domain(t);
  const started = await browser(t);
  const withoutLocks = () => Object.defineProperty(navigator, 'locks', { value: undefined });
  const page = await opened(started, home.link, { before: [...before, withoutLocks] });
  const first = page.node;
  assert.equal(await page.evaluate(() => window.peerage.node.identity), 'ephemeral');
  assert.equal(await page.evaluate(() => window.peerage.node.constructor.start({ identity: 'persistent' }).catch((e) => e.code)), 'unsupported');
  assert.equal(await page.evaluate(() => window.peerage.node.constructor.start({ identity: 'ephemeral', storage: 'indexeddb' }).catch((e) => e.code)), 'bad-argument');
  await reload(page);
  assert.notEqual(page.node, first);
  assert.deepEqual(await page.evaluate(() => indexedDB.databases()), []);
});
