// The whole of it, as one story: `peerage up`, three tabs and a native participant; then the relay is killed, the manager is
// killed, a tab is closed. The binary and the browser are the real ones.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { at } from '../../scripts/lib.mjs';
import { browser, carry, Child, direct, joined, posed, scratch, tab, until, up } from './harness.mjs';

test('first light', { timeout: 540_000 }, async (t) => {
  const home = await up(t);
  const started = await browser(t);

  await t.test('a wrong invitation is refused with its message on the page', async () => {
    const page = await tab(started);
    // One character of the secret changed: the checksum or the domain says no.
    const index = home.link.indexOf('#') + Math.floor((home.link.length - home.link.indexOf('#')) / 2);
    const other = home.link[index] === 'A' ? 'B' : 'A';
    await page.goto(home.link.slice(0, index) + other + home.link.slice(index + 1));
    await page.waitForSelector('html[data-state="failed"]', { timeout: 60_000 });
    assert.match(await page.getAttribute('html', 'data-code'), /^(invite-|wrong-domain|no-member)/);
    assert.notEqual((await page.textContent('#gate-text')).trim(), '');
    await page.context().close();
  });

  const tabs = [];
  for (let i = 0; i < 3; i += 1) tabs.push(await joined(started, home.link));
  const [a, b, c] = tabs;
  const others = (page) => tabs.filter((other) => other !== page).map((other) => other.node);

  await t.test('each tab lists the others and the manager with their capabilities, from its own directory', async () => {
    for (const page of tabs) {
      await until(page, (ids) => {
        const here = window.peerage.domain.participants({ online: true });
        const tabs = ids.every((id) => here.some((p) => p.id === id && p.capabilities.some((c) => c.name === 'room/avatar')));
        return tabs && here.some((p) => p.role === 'manager' && p.capabilities.length > 0);
      }, others(page), 'the directory lacks somebody');
    }
  });

  await t.test('the tabs are connected directly: the selected candidate pairs are host to host', async () => {
    for (const page of tabs) await direct(page, others(page));
    const look = () => Promise.all(tabs.map((page) => page.evaluate(async () => {
      const [pairs, hosts] = [[], []];
      for (const connection of window.connections.filter((c) => c.connectionState === 'connected')) {
        const stats = new Map([...(await connection.getStats())]);
        for (const s of stats.values()) if (s.type === 'local-candidate' && s.candidateType === 'host') hosts.push(s.port);
        const transport = [...stats.values()].find((s) => s.type === 'transport');
        const pair = stats.get(transport?.selectedCandidatePairId);
        if (pair) pairs.push([stats.get(pair.localCandidateId), stats.get(pair.remoteCandidateId)].map(({ candidateType, address, port }) => ({ type: candidateType, address, port })));
      }
      return { pairs, hosts };
    })));
    // Two tabs that dial each other at once have two connections until one is closed, which they do not see at the same time.
    const end = Date.now() + 30_000;
    let seen;
    do seen = await look(); while (seen.some(({ pairs }) => pairs.length > 2) && Date.now() < end);
    const hosts = new Set(seen.flatMap((tab) => tab.hosts));
    for (const { pairs } of seen) {
      assert.equal(pairs.length, 2, `two other tabs, ${pairs.length} connections`);
      for (const [local, remote] of pairs) {
        assert.equal(local.type, 'host');
        // A check that overtakes the candidate on its way makes the remote "peer-reflexive", and the browser hides its address;
        // its port is that of a host candidate of another tab all the same, which no relay's would be.
        assert.ok(['host', 'prflx'].includes(remote.type) && hosts.has(remote.port), JSON.stringify([local, remote]));
      }
    }
  });

  const folder = await scratch(t);
  const native = new Child(t, ['--data', folder, 'join', home.link]);
  await t.test('a native participant exchanges messages with the tabs', async () => {
    native.say({ id: 1, cmd: 'open', channel: 'chat' });
    await a.evaluate(() => {
      window.chat = window.peerage.domain.channel('chat');
      window.heard = [];
      window.chat.on((bytes) => window.heard.push(new TextDecoder().decode(bytes)));
    });
    await until(a, () => window.peerage.domain.participants({ online: true }).filter((p) => p.role === 'participant').length === 4, null, 'the native participant is not listed');
    const line = native.line((l) => l.text === 'hello native', 'message');
    await a.evaluate(() => window.chat.send(new TextEncoder().encode('hello native')));
    await line;
    native.say({ id: 2, cmd: 'send', channel: 'chat', text: 'hello tab' });
    await until(a, () => window.heard.includes('hello tab'), null, 'nothing from the native participant');
  });

  await t.test('a note placed in one tab is seen in all, and by who joins later', async () => {
    await a.fill('#note', 'under the oak');
    await a.click('#place');
    const late = await joined(started, home.link);
    for (const page of [b, c, late]) await until(page, () => [...window.peerage.shared.notes.values()].some((n) => n.text === 'under the oak'), null, 'the note is missing');
    await late.context().close();
  });

  await t.test('what the tabs exchange does not pass the relay', async () => {
    const before = await home.relayed();
    const size = 4 * 1024 * 1024;
    await carry(a, b, size, 'measure');
    const grown = (await home.relayed()) - before;
    assert.ok(grown < size / 20, `the relay carried ${grown} bytes while ${size} went from tab to tab`);
  });

  await t.test('it fits a phone', async () => {
    const phone = await joined(started, home.link, { viewport: { width: 360, height: 640 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
    await phone.click('[data-panel="people"]');
    await until(phone, () => document.querySelectorAll('#list li').length >= 4, null, 'the list is short');
    assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= 360 && document.documentElement.scrollHeight <= 640));
    await phone.screenshot({ path: at('target/phone.png') });
    await phone.context().close();
  });
  await a.screenshot({ path: at('target/room.png') });

  const kill = async (role) => {
    const pids = await home.child.offspring(role);
    assert.equal(pids.length, 1, `one ${role} process`);
    process.kill(pids[0], 'SIGKILL');
  };

  await t.test('the relay is killed: poses go on and 16 MiB arrive intact', async () => {
    await kill('relay');
    for (const page of tabs) await Promise.all(tabs.filter((other) => other !== page).map((other) => posed(page, other)));
    await carry(b, c, 16 * 1024 * 1024, 'large');
  });

  await t.test('the manager is killed: likewise, and the page says what is missing', async () => {
    await kill('manager');
    await until(a, () => !document.getElementById('missing').hidden, null, 'nothing is said to be missing');
    const missing = await a.evaluate(() => window.peerage.domain.missing);
    assert.ok(missing.length > 0 && missing.every((name) => name.length > 0));
    assert.ok((await a.textContent('#missing')).includes(missing[0]));
    await posed(a, b);
    await carry(c, a, 1024 * 1024, 'after');
  });

  await t.test('a tab is closed: the others see it leave', async () => {
    await c.close({ runBeforeUnload: false });
    for (const page of [a, b]) {
      await until(page, (id) => !window.peerage.domain.participants({ online: true }).some((p) => p.id === id), c.node, 'the closed tab is still listed');
    }
    // The browser itself reports every try to reach the relay and the manager that were killed.
    for (const page of [a, b]) assert.deepEqual(page.faults.filter((fault) => !fault.includes('ERR_CONNECTION_REFUSED')), []);
  });
});
