// Neither the relay nor the manager can read what participants exchange: it is in no memory of theirs and in nothing they received.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { forms, inMemory, inStreams, parts, recorded } from './evidence.mjs';
import { browser, Child, direct, domain, joined, reached, scratch, scripts, until } from './harness.mjs';

/** Messages of one volley, and how often each says the marker. */
const MESSAGES = 200;
const TIMES = 16;

const light = { before: [scripts.withoutWebGl] };

/** Sends the marker many times from one tab to another and to the native participant, and waits until both have it all. */
async function volley(from, to, native, channel, marker) {
  native.say({ cmd: 'open', channel });
  const arrived = to.evaluate(([name, sender, count]) => new Promise((resolve) => {
    let seen = 0;
    window.peerage.domain.channel(name).on((_, { from }) => { if (from === sender && (seen += 1) === count) resolve(); });
  }), [channel, from.node, MESSAGES]);
  const last = native.line((line) => line.channel === channel && line.text?.startsWith(`${MESSAGES - 1} `), 'the last message', 60_000);
  await from.evaluate(async ([name, to, text, count]) => {
    const channel = window.peerage.domain.channel(name);
    for (let i = 0; i < count; i += 1) await channel.send(new TextEncoder().encode(`${i} ${text}`), { to });
  }, [channel, [to.node, native.node], `${marker} `.repeat(TIMES), MESSAGES]);
  await arrived;
  assert.ok((await last).text.includes(marker));
  return MESSAGES * TIMES * marker.length;
}

test('the relay and the manager are blind to what participants exchange', { timeout: 300_000 }, async (t) => {
  const home = await domain(t);
  const started = await browser(t);
  const name = `called ${randomBytes(16).toString('hex')}`;
  const markers = { relayed: randomBytes(48).toString('base64url'), direct: randomBytes(48).toString('base64url') };
  const marked = Object.fromEntries(Object.entries(markers).map(([path, text]) => [`marker, ${path}`, Buffer.from(text)]));
  const ids = forms('domain id', parts(home.link).domain);
  const secrets = forms('domain secret', await readFile(join(home.data, 'domain/secret')));
  const controls = { 'name in the directory': Buffer.from(name) };
  const needles = { ...marked, ...ids, ...secrets, ...controls };
  const pids = { relay: home.relay.child.pid, manager: home.manager.child.pid };

  const native = new Child(t, ['--data', await scratch(t), 'join', home.link]);
  native.node = (await native.line((line) => line.event === 'joined', 'joined')).node;
  // These two cannot reach one another but through the relay.
  const a = await joined(started, home.link, { before: [scripts.withoutIce, scripts.withoutWebGl], name });
  const b = await joined(started, home.link, { before: [scripts.withoutIce, scripts.withoutWebGl] });
  for (const [page, other] of [[a, b], [b, a]]) {
    await until(page, (id) => window.peerage.domain.participants({ online: true }).some((p) => p.id === id), other.node, 'the other is not listed');
    await until(page, () => window.peerage.domain.participants({ online: true }).length === 4, null, 'not everybody is listed');
    await reached(page, [other.node], 'relayed');
  }

  /** Neither memory nor what was received has a marker; the relay's has nothing of the domain either. */
  const blind = async () => {
    const relay = await inMemory(pids.relay, needles);
    const manager = await inMemory(pids.manager, needles);
    assert.ok(relay.bytes > 4_000_000 && manager.bytes > 4_000_000, `${relay.bytes} and ${manager.bytes} bytes of memory looked through`);
    assert.deepEqual(relay.found, [], 'in the memory of the relay');
    assert.deepEqual(manager.found.filter((name) => name in marked), [], 'in the memory of the manager');
    // What it may read it has: the search sees what sealed frames opened to, and what is kept for long.
    for (const name of ['domain id, raw', 'domain secret, raw', ...Object.keys(controls)]) assert.ok(manager.found.includes(name), `${name} is not in the memory of the manager`);
  };

  await t.test('through the relay', async () => {
    const recording = async () => (await recorded(home.records.relay)).reduce((sum, stream) => sum + stream.length, 0);
    const before = [await home.relay.received(), await recording()];
    const flying = volley(a, b, native, 'through', markers.relayed);
    // While it flies, and when it has arrived.
    await blind();
    const volume = await flying;
    await blind();
    // The messages did go through it, and the recording has all of it.
    const grown = [await home.relay.received(), await recording()].map((now, i) => now - before[i]);
    assert.ok(grown.every((bytes) => bytes >= volume), `the relay received and recorded ${grown} bytes, the messages have ${volume}`);
    await reached(a, [b.node], 'relayed');
  });

  await t.test('directly', async () => {
    const [c, d] = await Promise.all([joined(started, home.link, light), joined(started, home.link, light)]);
    await direct(c, [d.node]);
    await direct(d, [c.node]);
    await volley(c, d, native, 'past', markers.direct);
    await blind();
  });

  await t.test('the same search finds a marker where it belongs', async () => {
    // On a channel that nobody opened a message waits in the recipient's memory.
    const text = randomBytes(48).toString('base64url');
    await a.evaluate(([text, to]) => window.peerage.domain.channel('kept').send(new TextEncoder().encode(text), { to }), [text, native.node]);
    const belongs = { ...controls, marker: Buffer.from(text), 'domain id': parts(home.link).domain };
    // It has arrived when hundreds of messages behind it have.
    await volley(a, b, native, 'after', 'x');
    assert.deepEqual((await inMemory(native.pid, belongs)).found, ['domain id', 'marker', 'name in the directory']);
    const line = native.line((line) => line.channel === 'kept', 'the message that was kept');
    native.say({ cmd: 'open', channel: 'kept' });
    assert.equal((await line).text, text);
  });

  await t.test('nothing of it is in what they received', async () => {
    const control = { 'control lane': Buffer.from('/peerage/control/1'), circuits: Buffer.from('/libp2p/circuit/relay/0.2.0/') };
    const [relay, manager] = await Promise.all([recorded(home.records.relay), recorded(home.records.manager)]);
    assert.deepEqual(inStreams(relay, { ...needles, ...control }), ['circuits', 'control lane']);
    // The name reached it, but sealed: links are not what keeps the directory from strangers.
    assert.deepEqual(inStreams(manager, { ...marked, ...controls, ...control }), ['circuits', 'control lane']);
  });
});
