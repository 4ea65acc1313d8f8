// Channels of mode datagram: between tabs over a data channel that keeps no order and sends nothing again, to a native participant over
// the datagrams of WebTransport where it has that, else over a stream.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { browser, direct, domain, joined, reached, scratch, scripts } from './harness.mjs';
import { Native } from './native.mjs';

const light = { before: [scripts.withoutWebGl] };
const NAME = 'test/datagrams';

/** Opens the channel in a tab, and keeps what comes. */
const listen = (page) => page.evaluate((name) => {
  window.came = [];
  window.datagrams = window.peerage.domain.channel(name, { mode: 'datagram' });
  window.datagrams.on((bytes, { from }) => window.came.push({ from, text: new TextDecoder().decode(bytes) }));
}, NAME);

/** Sends texts until a page has heard one: a datagram may be lost. */
async function tell(from, to, text) {
  for (let tries = 0; tries < 50; tries += 1) {
    await from.evaluate(([text, to]) => window.datagrams.post(new TextEncoder().encode(text), { to }), [text, to.node]);
    if (await to.evaluate((text) => new Promise((resolve) => {
      setTimeout(() => resolve(window.came.some((message) => message.text === text)), 100);
    }), text)) return;
  }
  assert.fail('not one of 50 datagrams came');
}

/** The same with a native participant; and back. */
async function exchange(page, native) {
  await native.ask({ cmd: 'open', channel: NAME, mode: 'datagram' });
  const [there, back] = [`to ${native.id}`, `from ${native.id}`];
  const again = setInterval(() => page.evaluate(([text, to]) => window.datagrams.post(new TextEncoder().encode(text), { to }), [there, native.id]), 100);
  const line = await native.child.line((l) => l.event === 'message' && l.channel === NAME && l.text === there, 'a datagram').finally(() => clearInterval(again));
  assert.equal(line.from, page.node);
  for (let tries = 0; tries < 50; tries += 1) {
    await native.ask({ cmd: 'send', channel: NAME, mode: 'datagram', to: [page.node], text: back });
    if (await page.evaluate((text) => new Promise((resolve) => {
      setTimeout(() => resolve(window.came.some((message) => message.text === text)), 100);
    }), back)) return;
  }
  assert.fail('not one of 50 datagrams came back');
}

test('datagrams go beside the streams where there is a way for them, and over one where there is none', { timeout: 300_000 }, async (t) => {
  const home = await domain(t);
  const started = await browser(t);
  const [a, b] = await Promise.all([joined(started, home.link, light), joined(started, home.link, light)]);
  await Promise.all([direct(a, [b.node]), direct(b, [a.node])]);
  // No browser dials TCP: the second one is reached through the relay.
  const natives = await Promise.all(['/ip4/127.0.0.1/udp/0/quic-v1/webtransport', '/ip4/127.0.0.1/tcp/0'].map(async (address) =>
    Native.open(t, await scratch(t), home.link, { more: ['--listen', address] })));
  for (const [i, path] of ['direct', 'relayed'].entries()) await reached(a, [natives[i].id], path);
  await Promise.all([a, b].map(listen));
  const ways = await a.evaluate(() => Object.fromEntries(window.peerage.domain.links().map((link) => [link.peer, link.datagrams])));
  assert.deepEqual([b.node, ...natives.map(({ id }) => id)].map((id) => ways[id]), [true, true, false], JSON.stringify(ways));
  await tell(a, b, 'to b');
  await tell(b, a, 'to a');

  // They took the channel that is there for them, and no other.
  const counted = await Promise.all([a, b].map((page) => page.evaluate(async () => {
    const all = await Promise.all(window.connections.filter((c) => c.connectionState === 'connected').map((c) => c.getStats()));
    return all.flatMap((stats) => [...stats.values()]).filter((s) => s.type === 'data-channel' && s.dataChannelIdentifier === 1023)
      .map((s) => [s.messagesSent, s.messagesReceived]);
  })));
  // Where both dialled there are two connections, and each may take another one.
  for (const channels of counted) for (const way of [0, 1]) assert.ok(channels.some((count) => count[way] > 0), JSON.stringify(counted));

  for (const [i, native] of natives.entries()) {
    const { links } = await native.ask({ cmd: 'links' });
    assert.equal(links.find(({ node }) => node === a.node).datagrams, i === 0, JSON.stringify(links));
    await exchange(a, native);
  }

  // What is too long for a datagram is refused, and says so.
  const refused = await a.evaluate(() => window.datagrams.send(new Uint8Array(901)).then(() => 'sent', (error) => error.code));
  assert.equal(refused, 'too-large');
  const stats = await a.evaluate(() => window.peerage.domain.stats());
  assert.deepEqual([stats.datagrams, stats.linked >= 3], [2, true]);
  assert.deepEqual([...a.faults, ...b.faults], []);
});
