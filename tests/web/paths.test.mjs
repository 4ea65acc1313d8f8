// The ways a tab reaches others: WebTransport and WebRTC-direct to a relay, and the relay when ICE fails.
import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { generate } from 'selfsigned';
import { at } from '../../scripts/lib.mjs';
import {
  again, browser, carry, Child, direct, domain, freePort, HERE, isDial, joined, manage, reached, relay, run, scratch, scripts, serve, tab, until,
} from './harness.mjs';

const light = { before: [scripts.withoutWebGl] };
const SECURE = 'https://app.example/';

/** A tab on a page over https. */
async function secured(started) {
  const page = await tab(started, { context: await started.newContext({ permissions: ['local-network-access'] }) });
  // Its own server would need a certificate: the page is the same, and of the same origin.
  await page.route(`${SECURE}**`, async (route) => {
    const { pathname } = new URL(route.request().url());
    if (pathname === '/') return route.fulfill({ contentType: 'text/html', body: '<!doctype html>' });
    return route.fulfill({ path: join(at('pkg'), pathname) });
  });
  await page.goto(SECURE);
  return page;
}

for (const way of ['webrtc-direct', 'webtransport']) test(`a link that names only a ${way} address of the relay leads in`, { timeout: 180_000 }, async (t) => {
  const home = await domain(t, { hint: (address) => address.includes(`/${way}/`) });
  const ports = home.relay.addresses.filter((address) => address.includes('/ws/')).map((address) => address.match(/\/tcp\/(\d+)/)[1]);
  assert.equal(ports.length, 1);
  const started = await browser(t);
  const sockets = [];
  const options = { ...light, prepare: (page) => page.on('websocket', (socket) => sockets.push(new URL(socket.url()).port)) };
  const [a, b] = await Promise.all([joined(started, home.link, options), joined(started, home.link, options)]);
  for (const [page, other] of [[a, b], [b, a]]) {
    const links = await page.evaluate((relay) => window.peerage.node.links().filter((link) => link.peer === relay), home.relay.id);
    assert.ok(links.length > 0 && links.every((link) => link.address.includes(`/${way}/`)), JSON.stringify(links));
    // Signalled over the relay all the same.
    await direct(page, [other.node]);
  }
  assert.ok(!sockets.includes(ports[0]), 'the relay was reached over WebSocket after all');
  await carry(a, b, 256 * 1024, 'over');
  assert.deepEqual([...a.faults, ...b.faults], []);
});

test('a browser without WebTransport takes another way of the link', { timeout: 120_000 }, async (t) => {
  const home = await domain(t, { hint: (address) => address.includes('/webtransport/') || address.includes('/ws/') });
  const started = await browser(t);
  const a = await joined(started, home.link, { before: [() => { delete window.WebTransport; }, scripts.withoutWebGl] });
  const ways = await a.evaluate((relay) => window.peerage.node.links().filter((link) => link.peer === relay).map((link) => link.address), home.relay.id);
  assert.ok(ways.length > 0 && ways.every((address) => address.includes('/ws')), ways.join());
  assert.deepEqual(a.faults, []);
});

/** Keeps when which way was tried, and lets no WebTransport session come up in a page that is told so. */
const watchTries = () => {
  window.tries = [];
  const note = (way) => window.tries.push({ way, at: performance.now() });
  const [Socket, Session] = [WebSocket, WebTransport];
  window.WebSocket = class extends Socket { constructor(...args) { super(...args); note('websocket'); } };
  window.WebTransport = class extends Session {
    constructor(...args) { super(...args); note('webtransport'); }
    get ready() { return window.blocked ? new Promise(() => {}) : super.ready; }
  };
};

test('the best way to a relay gets a head start, and so does the one that worked before', { timeout: 180_000 }, async (t) => {
  const server = await relay(t, await scratch(t));
  const started = await browser(t);
  const url = `${await serve(t, at('pkg'), { '/tab.html': '<!doctype html>' })}tab.html`;
  const addresses = server.addresses.filter((address) => address.includes('/ws/') || address.includes('/webtransport/'));
  const open = async (blocked) => {
    const page = await tab(started);
    await page.addInitScript(watchTries);
    await page.addInitScript((blocked) => { window.blocked = blocked; }, blocked);
    await page.goto(url);
    await page.evaluate(async (relays) => {
      const { Node } = await import('/dist/index.js');
      window.node = await Node.start({ relays });
    }, addresses);
    await page.waitForFunction(() => window.node.addresses().some((a) => a.includes('/p2p-circuit')), null, { timeout: 60_000 });
    return page;
  };
  const [free, blocked] = await Promise.all([open(false), open(true)]);
  const order = async (page) => {
    const tries = await page.evaluate(() => window.tries);
    const first = (way) => tries.find((one) => one.way === way)?.at ?? Infinity;
    return first('websocket') - first('webtransport');
  };
  for (const page of [free, blocked]) assert.ok(await order(page) > 240, `a WebSocket ${await order(page)} ms after WebTransport`);
  const way = await blocked.evaluate(() => window.node.links().map((link) => link.address));
  assert.ok(way.length > 0 && way.every((address) => address.includes('/ws')), way.join());

  // The relay ends and comes back: what is known to work is tried first.
  await Promise.all([free, blocked].map((page) => page.evaluate(() => { window.tries.length = 0; })));
  await server.child.stop('SIGKILL');
  await again(t, server);
  for (const [page, first] of [[free, 'webtransport'], [blocked, 'websocket']]) {
    await until(page, () => window.tries.length > 0 && window.node.links().length > 0, undefined, 'not connected again');
    assert.equal((await page.evaluate(() => window.tries))[0].way, first);
  }
  assert.deepEqual([...free.faults, ...blocked.faults].filter((fault) => !isDial(fault)), []);
});

test('a page over https tries nothing that the browser forbids, and says what that is', { timeout: 180_000 }, async (t) => {
  const home = await domain(t);
  const wt = home.relay.addresses.find((address) => address.includes('/webtransport/'));
  // A name, as this machine itself may be reached over ws: from anywhere.
  const ws = home.relay.addresses.find((address) => address.includes('/ws/')).replace('/ip4/127.0.0.1', '/dns4/relay.example');
  const link = (await run('--data', home.data, 'invite', '--page', SECURE, '--relay', `${ws},${wt}`)).trim();
  const page = await secured(await browser(t));
  const sockets = [];
  page.on('websocket', (socket) => sockets.push(socket.url()));
  const { ways, blocked } = await page.evaluate(async (link) => {
    const { Node } = await import('/dist/index.js');
    const node = await Node.start();
    await node.join(link);
    return node.diagnose();
  }, link);
  assert.deepEqual(ways.map((way) => [way.transport, way.state]).sort(), [['websocket', 'skipped'], ['webtransport', 'works']]);
  assert.deepEqual(blocked, ['mixed-content']);
  assert.deepEqual([sockets.filter((url) => url.includes('relay.example')), page.faults], [[], []]);
});

test('a page over https joins through a relay in TLS, whose certificate is renewed meanwhile', { timeout: 180_000 }, async (t) => {
  const folder = await scratch(t);
  const [certificate, key] = ['fullchain.pem', 'privkey.pem'].map((name) => join(folder, name));
  const issue = async () => {
    const pems = await generate([{ name: 'commonName', value: 'localhost' }], { keyType: 'ec', extensions: [{ name: 'subjectAltName', altNames: [{ type: 2, value: 'localhost' }] }] });
    await Promise.all([writeFile(certificate, pems.cert), writeFile(key, pems.private)]);
    return createHash('sha256').update(new X509Certificate(pems.cert).publicKey.export({ type: 'spki', format: 'der' })).digest('base64');
  };
  const first = await issue();
  const port = await freePort();
  const data = join(folder, 'relay');
  const listens = ['', '/ws', '/tls/ws'].map((rest) => `/ip4/127.0.0.1/tcp/${port}${rest}`);
  const child = new Child(t, [
    '--data', data, 'relay', '--http', '127.0.0.1:0', ...listens.flatMap((address) => ['--listen', address]),
    '--announce', `/dns4/localhost/tcp/${port}/tls/ws`, '--tls-certificate', certificate, '--tls-key', key,
  ]);
  const { addresses } = await child.line((line) => line.role === 'relay', 'ready line');
  const named = addresses.filter((address) => address.includes('/tls/'));
  assert.equal(named.length, 1, addresses.join());
  const home = join(folder, 'home');
  await run('--data', home, 'domain', 'create', 'the yard');
  const link = (await run('--data', home, 'invite', '--page', SECURE, '--relay', named[0])).trim();
  const manager = await manage(t, { data: home, relays: [{ addresses }] });

  const open = async (trusted) => {
    const page = await secured(await browser(t, HERE, [`--ignore-certificate-errors-spki-list=${trusted}`]));
    await page.evaluate(async (link) => {
      const { Node } = await import('/dist/index.js');
      window.node = await Node.start();
      window.domain = await window.node.join(link);
    }, link);
    return page;
  };
  const a = await open(first);
  await until(a, (id) => window.domain.participants({ online: true }).some((p) => p.id === id), manager.id, 'no manager');
  assert.ok((await a.evaluate(() => window.node.links().map((l) => l.address))).some((address) => address?.includes(`/tcp/${port}/tls/ws`)));

  const b = await open(await issue());
  await until(a, () => window.domain.participants({ online: true }).length === 3, null, 'the first one does not see who came after the renewal');
  assert.deepEqual([...a.faults, ...b.faults], []);
});

test('when ICE fails the node says so, and the relayed path stays and carries messages', { timeout: 300_000 }, async (t) => {
  const home = await domain(t);
  const started = await browser(t);
  const a = await joined(started, home.link, { before: [scripts.withoutIce, scripts.withoutWebGl] });
  const b = await joined(started, home.link, light);
  await Promise.all([a, b].map((page) => page.evaluate(() => {
    window.failed = [];
    window.peerage.node.addEventListener('directfailed', ({ detail }) => window.failed.push(detail));
  })));
  await reached(a, [b.node], 'relayed');
  await reached(b, [a.node], 'relayed');
  // Both try; each is told of its own try.
  for (const [page, other] of [[a, b], [b, a]]) {
    await until(page, (id) => window.failed.some((failure) => failure.id === id), other.node, 'nothing was said');
    assert.deepEqual(await page.evaluate((id) => [...new Set(window.failed.filter((f) => f.id === id).map((f) => f.code))], other.node), ['ice-failed']);
  }

  const size = 512 * 1024;
  const before = await home.relay.received();
  await carry(a, b, size, 'there');
  await carry(b, a, size, 'back');
  assert.ok((await home.relay.received()) - before >= 2 * size, 'the messages took another way');
  await reached(a, [b.node], 'relayed');
  await reached(b, [a.node], 'relayed');
  // To whom there is a way, there is a direct one.
  await direct(a, [home.manager.id]);
  const dead = await a.evaluate(() => window.connections.filter((c) => c.connectionState === 'connected').length);
  assert.equal(dead, 0);
  assert.deepEqual([...a.faults, ...b.faults], []);
});

test('without a relay a link that broke is made anew, signalled by the one who is linked to both', { timeout: 240_000 }, async (t) => {
  const home = await domain(t);
  const started = await browser(t);
  const all = await Promise.all([1, 2, 3].map(() => joined(started, home.link, light)));
  const [a, b] = all;
  for (const one of all) await direct(one, all.filter((other) => other !== one).map((other) => other.node));
  await Promise.all([home.relay.child.stop('SIGKILL'), home.manager.child.stop('SIGKILL')]);
  for (const one of all) await until(one, (id) => !window.peerage.node.links().some((link) => link.peer === id && link.path), home.relay.id, 'the relay is still there');

  // Which of a's connections leads to b, its credentials tell.
  const names = await b.evaluate(() => window.connections.map((c) => c.localDescription?.sdp.match(/a=ice-ufrag:(\S+)/)[1]));
  const cut = await a.evaluate((names) => {
    const toB = window.connections.filter((c) => names.includes(c.remoteDescription?.sdp.match(/a=ice-ufrag:(\S+)/)[1]));
    for (const one of toB) one.close();
    return toB.length;
  }, names);
  assert.ok(cut > 0);
  await until(b, (before) => window.connections.slice(before).some((c) => c.connectionState === 'connected'), names.length, 'no new connection');
  await direct(b, [a.node]);
  await carry(a, b, 256 * 1024, 'there');
  await carry(b, a, 256 * 1024, 'back');
  // The newcomer's way in is another matter: it knows nobody who could carry anything.
  for (const one of all) assert.deepEqual(one.faults.filter((fault) => !isDial(fault)), []);
});

test('the configuration for WebRTC reaches the connections, and a bad one is refused at once', { timeout: 120_000 }, async (t) => {
  const { addresses } = await relay(t, await scratch(t));
  const address = addresses.find((a) => a.includes('/ws/'));
  const page = await serve(t, at('pkg'), { '/tab.html': '<!doctype html>' });
  const started = await browser(t);
  const open = async (rtc) => {
    const one = await tab(started);
    await one.goto(`${page}tab.html`);
    const id = await one.evaluate(async ([relays, rtc]) => {
      const { Node } = await import('/dist/index.js');
      const bad = await Node.start({ relays, rtc: { iceServers: [{ urls: 'nonsense' }] } }).catch((e) => e.code);
      if (bad !== 'bad-argument') throw new Error(`a bad configuration: ${bad}`);
      window.node = await Node.start({ relays, rtc });
      return window.node.id;
    }, [[address], rtc]);
    await one.waitForFunction(() => window.node.addresses().some((a) => a.includes('/p2p-circuit/webrtc/')), null, { timeout: 30_000 });
    return { one, id };
  };
  // Only through a TURN server, of which there is none: no pair of candidates is left.
  const [a, b, c] = await Promise.all([open({ iceTransportPolicy: 'relay' }), open({}), open({})]);
  const dial = ({ one }, id) => one.evaluate((address) => window.node.dial(address).then((link) => link.path, (e) => e.code), `${address}/p2p-circuit/webrtc/p2p/${id}`);
  assert.equal(await dial(b, c.id), 'direct');
  assert.equal(await dial(a, b.id), 'ice-failed');
});
