// Attack 25: a server learns the secret of an invitation. It is in the link's fragment; no byte of it may go anywhere.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { test } from 'node:test';
import { inMemory, inStreams, parts, recorded, shreds } from './evidence.mjs';
import { browser, direct, joined, scripts, tab, until, up } from './harness.mjs';

/** Stands in front of a web server and keeps every byte that reaches it, per connection. */
async function listened(t, port) {
  const streams = [];
  const server = createServer((socket) => {
    const pieces = [];
    streams.push(pieces);
    const behind = connect(port, '127.0.0.1');
    socket.on('data', (piece) => pieces.push(piece));
    socket.pipe(behind).pipe(socket);
    for (const end of [socket, behind]) end.on('error', () => { socket.destroy(); behind.destroy(); });
    socket.on('close', () => behind.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return { port: server.address().port, heard: () => streams.map((pieces) => Buffer.concat(pieces)) };
}

/** All that a page asks of the network, as the browser tells it: requests with their headers and bodies, and WebSocket frames. */
function watched(page) {
  const all = [];
  const note = (what) => all.push(Buffer.isBuffer(what) ? what : Buffer.from(what));
  const sockets = [];
  page.on('request', (request) => {
    // Of the navigation itself the browser tells the fragment too, which it does not send; the server's side shows that.
    note(request.isNavigationRequest() ? request.url().split('#')[0] : request.url());
    const body = request.postDataBuffer();
    if (body) note(body);
    all.push(request.allHeaders().then((headers) => Buffer.from(JSON.stringify(headers)), () => Buffer.alloc(0)));
  });
  page.on('websocket', (socket) => {
    sockets.push(socket.url());
    note(socket.url());
    for (const way of ['framesent', 'framereceived']) socket.on(way, ({ payload }) => note(payload));
  });
  return { sockets, all: () => Promise.all(all) };
}

/**
 * Where a page leaves things: storage, history, address, timings of what it fetched. The timing of the navigation itself is left
 * out: the browser keeps the whole address there, for scripts of this document only, and has no way to remove it.
 */
const stored = (page) => page.evaluate(async () => JSON.stringify({
  local: { ...localStorage }, session: { ...sessionStorage }, cookies: document.cookie, name: window.name,
  history: history.state, location: location.href, referrer: document.referrer,
  fetched: performance.getEntries().filter((e) => e.entryType !== 'navigation').map((e) => e.name), databases: await indexedDB.databases(), caches: await caches.keys(),
}));

test('attack_25_a_server_learns_the_secret_of_the_link', { timeout: 240_000 }, async (t) => {
  const home = await up(t);
  const { secret, fragment } = parts(home.link);
  const needles = shreds(secret, fragment);
  const port = Number(new URL(home.link).port);
  const server = await listened(t, port);
  const link = home.link.replace(`:${port}/`, `:${server.port}/`);
  const started = await browser(t);

  const seen = [];
  const options = { before: [scripts.withoutWebGl], prepare: (page) => seen.push(watched(page)) };
  const [a, b] = await Promise.all([joined(started, link, options), joined(started, link, options)]);
  await direct(a, [b.node]);
  await direct(b, [a.node]);
  // Everything that shows or uses the link: the QR code, a note, a person who asks for the next page.
  await a.click('[data-panel="invite"]');
  await a.fill('#note', 'under the oak');
  await a.click('#place');
  await until(b, () => [...window.peerage.shared.notes.values()].some((note) => note.text === 'under the oak'), null, 'the note is missing');

  await t.test('nothing that the page asked of the network has a piece of it', async () => {
    const asked = (await Promise.all(seen.map(({ all }) => all()))).flat();
    assert.ok(seen.every(({ sockets }) => sockets.length > 0) && asked.length > 50, `${asked.length} pieces seen`);
    assert.deepEqual(inStreams(asked, { ...needles, page: Buffer.from(`127.0.0.1:${server.port}/app.js`) }), ['page']);
  });

  await t.test('nothing is left of it where the page is', async () => {
    for (const page of [a, b]) {
      const text = await stored(page);
      assert.deepEqual(inStreams([Buffer.from(text)], { ...needles, name: Buffer.from('peerage.name') }), ['name'], text);
      const cookies = await page.context().cookies();
      assert.deepEqual(cookies, []);
    }
  });

  await t.test('a reload comes back as the same participant, and leaves nothing either', async () => {
    const before = b.node;
    await b.reload();
    await b.waitForSelector('html[data-state="joined"], html[data-state="failed"]', { timeout: 60_000 });
    assert.equal(await b.getAttribute('html', 'data-state'), 'joined', await b.textContent('#gate'));
    assert.equal(await b.evaluate(() => window.peerage.node.id), before);
    assert.deepEqual(inStreams([Buffer.from(await stored(b))], needles), []);
  });

  await t.test('the page\'s server, the relay and the manager received no piece of it', async () => {
    const heard = server.heard();
    assert.deepEqual(inStreams(heard, { ...needles, request: Buffer.from('GET /app.js HTTP/1.1') }), ['request']);
    assert.ok(heard.every((stream) => !/^referer:/im.test(stream.toString('latin1'))), 'a referrer was sent');
    const control = { 'control lane': Buffer.from('/peerage/control/1') };
    for (const role of ['relay', 'manager']) assert.deepEqual(inStreams(await recorded(home.records[role]), { ...needles, ...control }), ['control lane'], role);
  });

  await t.test('nor is it in the memory of relay or manager', async () => {
    for (const role of ['relay', 'manager']) {
      const [pid] = await home.child.offspring(role);
      const { found, bytes } = await inMemory(pid, { secret, text: Buffer.from(secret.toString('base64url')), fragment: Buffer.from(fragment) });
      assert.ok(bytes > 4_000_000);
      assert.deepEqual(found, [], role);
    }
  });

  await t.test('a page that does give it away is caught', async () => {
    const careless = await tab(started);
    const caught = watched(careless);
    await careless.goto(new URL(link).origin);
    const half = secret.subarray(10, 24).toString('base64url');
    await careless.evaluate((half) => fetch(`/?about=${half}`, { method: 'POST', body: half }), half);
    assert.notDeepEqual(inStreams(await caught.all(), needles), []);
    assert.notDeepEqual(inStreams(server.heard(), needles), []);
    await careless.evaluate((half) => history.replaceState({ half }, ''), half);
    assert.notDeepEqual(inStreams([Buffer.from(await stored(careless))], needles), []);
  });
});
