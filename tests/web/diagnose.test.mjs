// What a tab says of the ways to its relays: what works, what is blocked, what is used instead.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diagnose, forbidden } from '../../pkg/dist/diagnose.js';
import { browser, domain, joined, scripts } from './harness.mjs';

const WS = '/dns4/relay.example/tcp/443/ws/p2p/x';
const WSS = '/dns4/relay.example/tcp/443/tls/ws/p2p/x';
const LOCAL = '/ip4/192.168.1.7/tcp/9611/ws/p2p/x';
const HERE = '/ip4/127.0.0.1/tcp/9611/ws/p2p/x';
const WT = '/ip4/192.0.2.1/udp/9611/quic-v1/webtransport/certhash/u/p2p/x';
const RTC = '/ip4/192.0.2.1/udp/9611/webrtc-direct/certhash/u/p2p/x';
const PAGE = { secure: false, webTransport: true, localNetwork: undefined, unstorable: undefined };

test('a page does not try what it may not', () => {
  const why = (address, page) => forbidden(address, { ...PAGE, ...page })?.[0];
  for (const address of [WS, WSS, LOCAL, HERE, WT, RTC]) assert.equal(why(address, {}), undefined, address);
  assert.deepEqual([WS, LOCAL].map((a) => why(a, { secure: true })), ['mixed-content', 'mixed-content']);
  assert.deepEqual([WSS, HERE, WT, RTC].map((a) => why(a, { secure: true })), Array(4).fill(undefined));
  assert.deepEqual([LOCAL, HERE, WT].map((a) => why(a, { localNetwork: 'denied' })), ['local-network', 'local-network', undefined]);
  assert.equal(why(WT, { webTransport: false }), 'webtransport');
  assert.deepEqual(forbidden('/ip4/192.0.2.1/udp/1/quic-v1/p2p/x', PAGE), [undefined, 'no browser can dial this']);
});

test('what is blocked is told from what is down', async () => {
  const blocked = async (working, addresses = [WS, WT, RTC], page = {}) => {
    const probe = async (address) => { if (!working.includes(address)) throw new Error('no'); return 5; };
    const report = await diagnose(addresses, [], { ...PAGE, ...page }, probe);
    assert.equal(report.advice.length, report.blocked.length);
    return report.blocked;
  };
  assert.deepEqual(await blocked([WS, WT, RTC]), []);
  assert.deepEqual(await blocked([WS, RTC]), [], 'one that is stale blocks nothing');
  assert.deepEqual(await blocked([WS]), ['udp']);
  assert.deepEqual(await blocked([WT]), ['websocket']);
  assert.deepEqual(await blocked([]), ['relay']);
  assert.deepEqual(await blocked([], []), [], 'nothing was tried');
  assert.deepEqual(await blocked([WT], [WS, WT], { secure: true }), ['mixed-content']);
  assert.deepEqual(await blocked([WS], [WS, WT], { webTransport: false, unstorable: 'a reason' }), ['webtransport', 'storage']);
});

test('a tab tries every way to its relay by itself', { timeout: 180_000 }, async (t) => {
  const home = await domain(t, { hint: (address) => ['/ws/', '/webtransport/', '/webrtc-direct/'].some((way) => address.includes(way)) });
  const started = await browser(t);
  const a = await joined(started, home.link, { before: [scripts.withoutWebGl] });
  const report = await a.evaluate(() => window.peerage.node.diagnose());
  assert.deepEqual(report.blocked, []);
  assert.deepEqual(report.ways.map((w) => w.transport).sort(), ['webrtc-direct', 'websocket', 'webtransport']);
  for (const way of report.ways) assert.ok(way.state === 'works' && way.rttMs >= 0, JSON.stringify(way));
  assert.ok(report.links.some((link) => link.peer === home.relay.id));
  const without = await joined(started, home.link, { before: [scripts.withoutWebGl, () => { delete window.WebTransport; }] });
  assert.deepEqual((await without.evaluate(() => window.peerage.node.diagnose())).blocked, ['webtransport']);
  // A stranger's address that leads nowhere blocks nothing; a relay that is gone is said to be.
  const nowhere = `/ip4/127.0.0.1/tcp/9/ws/p2p/${home.relay.id}`;
  const more = await a.evaluate((address) => window.peerage.node.diagnose({ addresses: [address] }), nowhere);
  assert.equal(more.ways.find((w) => w.address === nowhere).state, 'fails');
  assert.deepEqual(more.blocked, []);
  await home.relay.child.stop('SIGKILL');
  const after = await a.evaluate(() => window.peerage.node.diagnose());
  assert.deepEqual(after.blocked, ['relay']);
  assert.ok(after.ways.every((w) => w.state === 'fails' && w.why), JSON.stringify(after.ways));
});
