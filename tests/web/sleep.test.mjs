// A page that is hidden and shown, put aside and brought back, cut off and back: the others hear of it, and it looks at once who is there.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { at } from '../../scripts/lib.mjs';
import { browser, noded, relay, scratch, serve, until } from './harness.mjs';

test('what the page goes through its node goes through', { timeout: 120_000 }, async (t) => {
  const { addresses } = await relay(t, await scratch(t));
  const page = `${await serve(t, at('pkg'), { '/tab.html': '<!doctype html>' })}tab.html`;
  const started = await browser(t);
  const open = () => noded(started, page, addresses.find((a) => a.includes('/ws/')));
  const [a, b] = [await open(), await open()];
  const url = await a.evaluate(async () => {
    window.domain = await window.node.createDomain({ name: 'the yard' });
    return (await window.domain.invite()).url;
  });
  await until(a, () => window.node.addresses().some((address) => address.includes('/p2p-circuit')), null, 'it is not to be reached');
  await b.evaluate(async (url) => {
    window.domain = await window.node.join(url);
    // How often the node is told to look at once.
    const { NodeCore } = await import('/gen/peerage.js');
    const wake = NodeCore.prototype.wake;
    window.woken = 0;
    NodeCore.prototype.wake = function () { window.woken += 1; return wake.call(this); };
  }, url);
  const woken = () => b.evaluate(() => window.woken);
  const presence = (wanted) => until(a, ([id, wanted]) => window.domain.participants().some((p) => p.id === id && p.presence === wanted), [b.node, wanted], `it is not ${wanted}`);
  const visibility = (state) => b.evaluate((state) => {
    Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => state });
    document.dispatchEvent(new Event('visibilitychange'));
  }, state);

  await t.test('hidden it is suspended, shown it is online', async () => {
    await presence('online');
    await visibility('hidden');
    await presence('suspended');
    await visibility('visible');
    await presence('online');
  });

  await t.test('the network back, a step back in history, a thaw: it looks at once', async () => {
    await b.context().setOffline(true);
    await until(b, () => !navigator.onLine, null, 'it is online');
    await b.context().setOffline(false);
    await until(b, () => window.woken === 1, null, 'the network that is back wakes nobody');
    await b.evaluate(() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: false })));
    assert.equal(await woken(), 1, 'a page that is new slept not');
    await b.evaluate(() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })));
    assert.equal(await woken(), 2);
    await b.evaluate(() => document.dispatchEvent(new Event('resume')));
    assert.equal(await woken(), 3);
  });

  await t.test('and all goes on', async () => {
    await a.evaluate(() => { window.heard = new Promise((resolve) => window.domain.channel('chat').on((bytes) => resolve(bytes.length))); });
    await b.evaluate(() => window.domain.channel('chat').send(new Uint8Array(7)));
    assert.equal(await a.evaluate(() => window.heard), 7);
    assert.deepEqual([...a.faults, ...b.faults], []);
  });
});
