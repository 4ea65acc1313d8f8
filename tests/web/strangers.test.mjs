// A tab without a valid invitation cannot read anybody and cannot be read: nobody lists it, nothing of the domain gets into it,
// and the page says why.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { at } from '../../scripts/lib.mjs';
import { inMemory } from './evidence.mjs';
import { browser, direct, domain, joined, opened, scripts, serve, tab, until } from './harness.mjs';

const light = { before: [scripts.withoutWebGl] };

/** A link made of these parts, with the checksum it then has (docs/protocol.md, section 5): mistyped it is not. */
function forged(page, domain, secret, hints) {
  const sum = createHash('sha256').update('peerage/1/link\0').update(domain).update(secret).update(hints).digest().subarray(0, 4);
  return `${page}#1.${[domain, secret, Buffer.concat([hints, sum])].map((part) => part.toString('base64url')).join('.')}`;
}

/** Domain id, secret and hints of a link. */
const taken = (link) => {
  const [domain, secret, hints] = new URL(link).hash.split('.').slice(1).map((part) => Buffer.from(part, 'base64url'));
  return { domain, secret, hints: hints.subarray(0, -4) };
};

/** Another domain, founded in a tab an hour ago, with a link that still holds and one that has expired. */
async function elsewhere(t, started, relay, page) {
  const founder = await tab(started);
  // The clock of this tab alone; put right before anything is sent.
  await founder.addInitScript(() => { const now = Date.now.bind(Date); window.ahead = -3_600_000; Date.now = () => now() + window.ahead; });
  await founder.goto(`${await serve(t, at('pkg'), { '/tab.html': '<!doctype html>' })}tab.html`);
  const links = await founder.evaluate(async ([relay, page]) => {
    const { Node } = await import('/dist/index.js');
    window.node = await Node.start({ relays: [relay] });
    window.domain = await window.node.createDomain({ name: 'elsewhere' });
    const [old, good] = await Promise.all([new Date(Date.now() + 60_000), undefined].map((expires) => window.domain.invite({ page, ...(expires && { expires }) })));
    window.ahead = 0;
    return { old: old.url, good: good.url };
  }, [relay, page]);
  await founder.waitForFunction(() => window.node.addresses().some((a) => a.includes('/p2p-circuit')), null, { timeout: 60_000 });
  return { founder, ...links };
}

/** The processes of a browser that run pages. */
async function renderers(started) {
  const { processInfo } = await (await started.newBrowserCDPSession()).send('SystemInfo.getProcessInfo');
  return processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => id);
}

/** In which of these processes the text is. */
async function holders(pids, text) {
  const needles = { 'latin-1': Buffer.from(text), 'UTF-16': Buffer.from(text, 'utf16le') };
  const all = await Promise.all(pids.map((pid) => inMemory(pid, needles)));
  return pids.filter((_, i) => all[i].found.length > 0);
}

test('a tab without a valid invitation is out', { timeout: 400_000 }, async (t) => {
  const home = await domain(t, { invites: [[], ['--uses', '1']] });
  const inside = await browser(t);
  const [a, b] = await Promise.all([joined(inside, home.link, light), joined(inside, home.link, light)]);
  await direct(a, [b.node]);
  await direct(b, [a.node]);
  // From here on: who was ever seen, and talk that nobody else is to read.
  const marker = randomBytes(48).toString('base64url');
  for (const page of [a, b]) {
    await page.evaluate((marker) => {
      const { domain } = window.peerage;
      window.everSeen = new Set();
      const look = () => { for (const { id } of domain.participants()) window.everSeen.add(id); };
      look();
      domain.addEventListener('participant', ({ detail }) => { window.everSeen.add(detail.id); look(); });
      const talk = domain.channel('talk', { mode: 'latest' });
      window.heard = 0;
      talk.on(() => { window.heard += 1; });
      setInterval(() => talk.post(new TextEncoder().encode(`${marker} ${Math.random()}`)), 50);
    }, marker);
  }
  /** Waits until the members have talked for a while more. */
  const talked = () => Promise.all([a, b].map(async (page) => {
    const before = await page.evaluate(() => window.heard);
    await until(page, (n) => window.heard >= n, before + 40, 'the members do not talk');
  }));
  const outside = await browser(t);
  /** Nobody of the domain knows this node, or ever did. */
  const unknown = async (node) => {
    await talked();
    for (const page of [a, b]) {
      const { seen, links } = await page.evaluate(() => ({ seen: [...window.everSeen], links: window.peerage.domain.links().map((link) => link.peer) }));
      assert.ok(!seen.includes(node) && !links.includes(node), `${node} is among ${seen} or ${links}`);
      assert.ok(seen.includes(home.manager.id));
    }
  };
  /** A tab with this link is refused with one of these codes, says so, and leaves no trace in the domain. */
  const refused = async (link, ...codes) => {
    const page = await opened(outside, link, light);
    assert.equal(await page.getAttribute('html', 'data-state'), 'failed');
    assert.ok(codes.includes(page.code), page.code);
    assert.ok(page.node);
    assert.equal(await page.textContent('#gate-code'), page.code);
    for (const part of ['title', 'text', 'hint']) assert.notEqual((await page.textContent(`#gate-${part}`)).trim(), '', part);
    assert.ok(await page.isVisible('#gate-text'));
    await unknown(page.node);
    assert.equal(await page.evaluate(() => window.connections.filter((c) => c.connectionState === 'connected').length), 0);
    return page;
  };

  const ours = taken(home.link);
  const relay = home.relay.addresses.find((address) => address.includes('/ws/'));
  const other = await elsewhere(t, outside, relay, home.page);

  await t.test('with a secret of its own making', () => refused(forged(home.page, ours.domain, randomBytes(32), ours.hints), 'invite-unknown'));

  await t.test('with an invitation that another has used up', async () => {
    const c = await joined(inside, home.links[1], light);
    await until(a, (id) => window.everSeen.has(id), c.node, 'who has the right is not listed');
    await refused(home.links[1], 'invite-used');
    await c.close();
  });

  await t.test('with an expired invitation', () => refused(other.old, 'invite-expired'));

  await t.test('with the id of this domain and the rest of another\'s', async () => {
    const { secret, hints } = taken(other.good);
    await refused(forged(home.page, ours.domain, secret, hints), 'no-member', 'wrong-domain');
  });

  await t.test('with a good invitation to another domain, even on a link of its own to a member', async () => {
    const x = await joined(outside, other.good, light);
    await until(x, (id) => window.peerage.domain.participants({ online: true }).some((p) => p.id === id), await other.founder.evaluate(() => window.node.id), 'the other domain does not work');
    const address = await a.evaluate(() => window.peerage.node.addresses().find((address) => address.includes('/p2p-circuit/webrtc/')));
    const link = await x.evaluate((address) => window.peerage.node.dial(address), address);
    assert.equal(link.peer, a.node);
    await unknown(x.node);
    const links = await x.evaluate((id) => window.peerage.node.links().filter((link) => link.peer === id), a.node);
    assert.ok(links.length > 0, 'the link to the member is gone');
    for (const { received } of links) assert.equal(received, 0, 'a member sent frames to a stranger');
    assert.ok(await x.evaluate((id) => !window.peerage.domain.participants().some((p) => p.id === id), a.node));
  });

  await t.test('nothing of what was said is in the memory of their browser, and it is in that of the members', async () => {
    const [members, strangers] = await Promise.all([renderers(inside), renderers(outside)]);
    assert.ok(members.length >= 2 && strangers.length >= 5, `${members.length} and ${strangers.length} processes`);
    assert.deepEqual(await holders(strangers, marker), []);
    assert.ok((await holders(members, marker)).length >= 2);
  });
});
