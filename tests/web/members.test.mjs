// Membership operations from tabs: an approval, an eviction, a delegated right, a closed invitation.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { at } from '../../scripts/lib.mjs';
import { browser, noded, relay, scratch, serve, until } from './harness.mjs';

test('a founder approves, delegates, evicts and closes', { timeout: 240_000 }, async (t) => {
  const { addresses } = await relay(t, await scratch(t));
  const address = addresses.find((a) => a.includes('/ws/'));
  const page = `${await serve(t, at('pkg'), { '/tab.html': '<!doctype html>' })}tab.html`;
  const started = await browser(t);
  const open = () => noded(started, page, address);
  const join = (one, url, name) => one.evaluate(async ([url, name]) => {
    window.domain = await window.node.join(url, { profile: { name } });
    window.got = [];
    window.chat = window.domain.channel('chat', { codec: window.json() });
    window.chat.on((text) => window.got.push(text));
  }, [url, name]);
  const refused = (one, url) => one.evaluate((url) => window.node.join(url).then(() => 'joined', (e) => e.code), url);

  const [founder, b, c, d, x] = await Promise.all([open(), open(), open(), open(), open()]);
  for (const one of [founder, b, c, d]) await one.evaluate(async () => { window.json = (await import('/dist/index.js')).json; });
  const links = await founder.evaluate(async () => {
    window.domain = await window.node.createDomain({ name: 'the yard', profile: { name: 'founder' } });
    window.asked = [];
    window.domain.addEventListener('approval', ({ detail }) => window.asked.push(detail));
    window.chat = window.domain.channel('chat', { codec: window.json() });
    const [open, approve] = [await window.domain.invite(), await window.domain.invite({ approve: true, uses: 2 })];
    window.invite = open;
    return { open: open.url, approve: approve.url };
  });
  await founder.waitForFunction(() => window.node.addresses().some((a) => a.includes('/p2p-circuit')), null, { timeout: 30_000 });

  await t.test('who comes by an invitation that has to be approved waits for it', async () => {
    await b.evaluate(() => { window.waits = []; window.node.addEventListener('waiting', ({ detail }) => window.waits.push(detail.id)); });
    const joining = join(b, links.approve, 'bea');
    await until(founder, (id) => window.asked.some((one) => one.id === id && one.name === 'bea'), b.node, 'the founder was not asked');
    await until(b, () => window.waits.length === 1, null, 'nobody told the joiner that it waits');
    assert.deepEqual(await founder.evaluate(() => window.domain.waiting().map(({ name }) => name)), ['bea']);
    await founder.evaluate((id) => window.domain.approve(id), b.node);
    await joining;
    const turned = refused(x, links.approve);
    await until(founder, (id) => window.asked.some((one) => one.id === id), x.node, 'the founder was not asked');
    await founder.evaluate((id) => window.domain.deny(id), x.node);
    assert.equal(await turned, 'invite-denied');
    assert.equal(await refused(x, links.open), 'invite-denied', 'a no outweighs every yes');
  });

  await t.test('a right is delegated, and only then can be used', async () => {
    await join(c, links.open, 'cal');
    await until(c, (id) => window.domain.participants({ online: true }).some((p) => p.id === id), b.node, 'they do not see each other');
    assert.equal(await c.evaluate((id) => window.domain.evict(id).catch((e) => e.code), b.node), 'forbidden');
    assert.equal(await founder.evaluate((id) => window.domain.delegate(id, ['rule']).catch((e) => e.code), c.node), 'bad-argument');
    await founder.evaluate((id) => window.domain.delegate(id, ['invite', 'evict', 'store']), c.node);
    const url = await c.evaluate(async () => {
      for (;;) {
        const made = await window.domain.invite({ uses: 1 }).catch(() => undefined);
        if (made) return made.url;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    });
    await join(d, url, 'dan');
  });

  await t.test('who is evicted is out, and hears nothing any more', async () => {
    // The founder too: what is sent to all goes to whom its sender lists, and the newest came in through another.
    for (const one of [founder, b, c, d]) await until(one, () => window.domain.participants({ online: true }).length === 4, null, 'not all are there');
    await founder.evaluate(() => window.chat.send('before'));
    for (const one of [b, c, d]) await until(one, () => window.got.includes('before'), null, 'the message did not come');
    await b.evaluate(() => { window.domain.addEventListener('closed', () => { window.out = true; }); });
    await c.evaluate((id) => window.domain.evict(id), b.node);
    for (const one of [founder, d]) await until(one, (id) => !window.domain.participants().some((p) => p.id === id), b.node, 'it is still listed');
    await until(b, () => window.out === true, null, 'it does not know');
    await founder.evaluate(() => window.chat.send('after'));
    for (const one of [c, d]) await until(one, () => window.got.includes('after'), null, 'the others do not hear');
    assert.deepEqual(await b.evaluate(() => window.got), ['before']);
    assert.notEqual(await refused(b, links.open), 'joined');
  });

  await t.test('a closed invitation lets nobody in, and who came with it stays', async () => {
    await founder.evaluate(() => window.invite.revoke());
    const states = await founder.evaluate(() => window.domain.invitations().map(({ state, used }) => ({ state, used })));
    assert.ok(states.some(({ state, used }) => state === 'revoked' && used === 1), JSON.stringify(states));
    const e = await open();
    assert.equal(await refused(e, links.open), 'invite-revoked');
    assert.equal(await c.evaluate(() => window.domain.participants({ online: true }).length), 3);
  });
});
