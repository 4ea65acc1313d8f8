// Our tab and an unmodified js-libp2p tab, each dialling the other over `/webrtc` through our relay.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { build } from 'esbuild';
import { at } from '../../scripts/lib.mjs';
import { browser, relay, scratch, scripts, serve, tab } from '../web/harness.mjs';

/** A tab of js-libp2p. */
async function foreign(t, started) {
  const folder = await scratch(t);
  await build({
    entryPoints: [at('tests/interop/foreign.mjs')], outfile: join(folder, 'foreign.js'), bundle: true, format: 'esm', platform: 'browser', logLevel: 'warning',
  });
  const page = await tab(started);
  await page.addInitScript(scripts.connections);
  await page.goto(await serve(t, folder, { '/': '<!doctype html><script type="module" src="/foreign.js"></script>' }));
  await page.waitForFunction(() => window.foreign, null, { timeout: 30_000 }).catch((error) => assert.fail(`${error.message}\n${page.faults.join('\n')}`));
  return page;
}

/** A relay, our tab and theirs, both with a reservation. */
async function scene(t) {
  const { addresses } = await relay(t, await scratch(t));
  const address = addresses.find((a) => a.includes('/ws/'));
  const started = await browser(t);

  const ours = await tab(started);
  await ours.addInitScript(scripts.connections);
  await ours.goto(`${await serve(t, at('pkg'), { '/tab.html': '<!doctype html>' })}tab.html`);
  const us = await ours.evaluate(async (address) => {
    const { Node } = await import('/dist/index.js');
    window.node = await Node.start({ relays: [address] });
    return window.node.id;
  }, address);
  await ours.waitForFunction(() => window.node.addresses().some((a) => a.includes('/p2p-circuit/webrtc/')), null, { timeout: 30_000 });

  const theirs = await foreign(t, started);
  const them = await theirs.evaluate(() => window.foreign.id);
  await theirs.evaluate((address) => window.foreign.dial(address), address);
  return { address, ours, us, theirs, them };
}

/** The numbers of the data channels that a tab sees. */
const channels = (page) => page.evaluate(async () => {
  const all = await Promise.all(window.connections.map((connection) => connection.getStats()));
  return all.flatMap((stats) => [...stats.values()]).filter(({ type }) => type === 'data-channel').map((s) => s.dataChannelIdentifier);
});

test('a js-libp2p tab dials our relay over WebTransport, and pings it', { timeout: 120_000 }, async (t) => {
  const { addresses, id } = await relay(t, await scratch(t));
  const theirs = await foreign(t, await browser(t));
  await theirs.evaluate((address) => window.foreign.dial(address), addresses.find((a) => a.includes('/webtransport/')));
  for (let i = 0; i < 3; i += 1) {
    const { ms, address } = await theirs.evaluate((id) => window.foreign.ping(id), id);
    assert.ok(ms >= 0);
    assert.match(address, /\/quic-v1\/webtransport\/certhash\//);
  }
});

test('our tab dials a js-libp2p tab over /webrtc, and each pings the other', { timeout: 120_000 }, async (t) => {
  const { ours, us, theirs, them } = await scene(t);
  const reached = await theirs.evaluate(() => window.foreign.address());
  const link = await ours.evaluate((address) => window.node.dial(address), reached);
  assert.equal(link.peer, them);
  assert.equal(link.path, 'direct');
  assert.ok(link.rttMs > 0 && link.rttMs < 10_000, `${link.rttMs} ms`);
  const { ms, address } = await theirs.evaluate((id) => window.foreign.ping(id), us);
  assert.ok(ms >= 0);
  assert.match(address, /^\/webrtc\//);
  // What is there for datagrams among our own is not seen by others.
  const [own, seen] = await Promise.all([ours, theirs].map(channels));
  assert.ok(own.includes(1023) && seen.length > 0 && !seen.includes(1023), `${own} and ${seen}`);
});

test('a js-libp2p tab dials ours over /webrtc, and pings it', { timeout: 120_000 }, async (t) => {
  const { address, us, theirs } = await scene(t);
  await theirs.evaluate((address) => window.foreign.dial(address), `${address}/p2p-circuit/webrtc/p2p/${us}`);
  for (let i = 0; i < 3; i += 1) {
    const { ms, address: used } = await theirs.evaluate((id) => window.foreign.ping(id), us);
    assert.ok(ms >= 0);
    assert.match(used, /\/p2p-circuit\/webrtc\/p2p\//);
  }
});

test('a js-libp2p tab that takes candidates slowly still sees its first channel open', { timeout: 120_000 }, async (t) => {
  const { address, us, theirs } = await scene(t);
  await theirs.evaluate(() => {
    const add = RTCPeerConnection.prototype.addIceCandidate;
    RTCPeerConnection.prototype.addIceCandidate = async function slowly(...args) {
      await add.apply(this, args);
      if (this.connectionState !== 'connected') await new Promise((resolve) => this.addEventListener('connectionstatechange', resolve));
      // Another round trip over the connection, and more.
      await new Promise((resolve) => setTimeout(resolve, 500));
    };
  });
  await theirs.evaluate((address) => window.foreign.dial(address), `${address}/p2p-circuit/webrtc/p2p/${us}`);
  const { ms } = await theirs.evaluate((id) => window.foreign.ping(id), us);
  assert.ok(ms >= 0);
});
