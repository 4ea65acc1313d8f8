// The owner's backup: from tab to tab, from tab to command line and back; the root key as words.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { at } from '../../scripts/lib.mjs';
import { BINARY, browser, noded, relay, scratch, serve, until } from './harness.mjs';

const PASSPHRASE = 'correct horse battery Å';

test('whoever has the backup, or the words, is the owner', { timeout: 240_000 }, async (t) => {
  const folder = await scratch(t);
  const { addresses } = await relay(t, join(folder, 'relay'));
  const address = addresses.find((a) => a.includes('/ws/'));
  const page = `${await serve(t, at('pkg'), { '/tab.html': '<!doctype html>' })}tab.html`;
  const started = await browser(t);
  const open = () => noded(started, page, address);
  const [founder, second, guest] = await Promise.all([open(), open(), open()]);
  const peerage = (data, ...args) => promisify(execFile)(BINARY, ['--data', join(folder, data), ...args], { env: { ...process.env, PEERAGE_PASSPHRASE: PASSPHRASE } });
  const { id, url, file, words } = await founder.evaluate(async (passphrase) => {
    window.domain = await window.node.createDomain({ name: 'the yard', profile: { name: 'founder' } });
    const { url } = await window.domain.invite();
    return { id: window.domain.id, url, file: [...await window.domain.backup(passphrase)], words: await window.domain.rootWords() };
  }, PASSPHRASE);
  await until(founder, () => window.node.addresses().some((a) => a.includes('/p2p-circuit')), null, 'the founder is not to be reached');
  const restore = (one, file, passphrase) => one.evaluate(async ([file, passphrase]) => {
    try {
      window.domain = await window.node.restore(new Uint8Array(file), passphrase, { profile: { name: 'again' } });
      return window.domain.id;
    } catch (error) {
      return error.code;
    }
  }, [file, passphrase]);

  await t.test('in another browser, which is somebody else and the owner too', async () => {
    assert.equal(await restore(second, file, 'correct horse battery'), 'forbidden');
    assert.equal(await restore(second, file.map((byte, i) => (i === file.length - 1 ? byte ^ 1 : byte)), PASSPHRASE), 'forbidden');
    assert.equal(await restore(second, [1, 2, 3], PASSPHRASE), 'malformed');
    assert.equal(await restore(second, file, PASSPHRASE.normalize('NFD')), id);
    assert.notEqual(second.node, founder.node);
    for (const [one, other] of [[founder, second], [second, founder]]) {
      await until(one, (other) => window.domain.participants({ online: true }).some((p) => p.id === other), other.node, 'they do not see each other');
    }
    assert.equal(await second.evaluate(() => window.domain.rootWords()), words);
    await second.evaluate(() => window.domain.invite());
    // It is stored: reloaded, it is the owner again.
    await second.reload();
    assert.equal(await second.evaluate(async () => {
      const { Node } = await import('/dist/index.js');
      window.node = await Node.start();
      const [{ id }] = await window.node.domains();
      window.domain = await window.node.reopen(id);
      return window.domain.rootWords();
    }), words);
  });

  await t.test('on the command line, and from there', async () => {
    await writeFile(join(folder, 'tab.peerage'), Buffer.from(file));
    assert.match((await peerage('cli', 'domain', 'restore', join(folder, 'tab.peerage'))).stdout, new RegExp(`${id}[^]*root key here`));
    assert.equal((await peerage('cli', 'domain', 'words')).stdout.trim(), words);
    await peerage('cli', 'domain', 'backup', join(folder, 'cli.peerage'));
    assert.equal(await restore(guest, [...await readFile(join(folder, 'cli.peerage'))], PASSPHRASE), id);
    await guest.evaluate(() => window.domain.leave({ forget: true }));
  });

  await t.test('a guest becomes it by the words, and not by others', async () => {
    const codes = await guest.evaluate(async ([url, words]) => {
      window.domain = await window.node.join(url);
      const code = (promise) => promise.then(() => 'done', (error) => error.code);
      return [
        await code(window.domain.backup('correct horse battery')),
        await code(window.domain.restoreRoot(words.replace(/^\S+/, 'xyzzy'))),
        await code(window.domain.restoreRoot(`${'abandon '.repeat(23)}art`)),
        await code(window.domain.restoreRoot(words.toUpperCase())),
        await code(window.domain.rootWords()),
      ];
    }, [url, words]);
    assert.deepEqual(codes, ['forbidden', 'bad-argument', 'bad-argument', 'done', 'done']);
  });

  await t.test('all agree on who is responsible for what', async () => {
    const all = [founder, second, guest];
    for (const one of all) await until(one, (n) => window.domain.participants({ online: true }).length === n, all.length, 'not everybody is there');
    const keys = Array.from({ length: 20 }, (_, i) => `key ${i}`);
    const lists = await Promise.all(all.map((one) => one.evaluate((keys) => keys.map((key) => window.domain.responsible(key, 2)), keys)));
    assert.deepEqual(lists[1], lists[0]);
    assert.deepEqual(lists[2], lists[0]);
    assert.ok(lists[0].every((two) => new Set(two).size === 2 && two.every((id) => all.some((one) => one.node === id))));
    assert.equal(new Set(lists[0].map(([first]) => first)).size, 3, 'everybody has a share');
  });
});
