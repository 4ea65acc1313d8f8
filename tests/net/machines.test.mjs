// Participants on machines of their own, whose cables are cut and whose addresses change.
import assert from 'node:assert/strict';
import { join as path } from 'node:path';
import { test } from 'node:test';
import { Child, run, scratch } from '../web/harness.mjs';
import { Native } from '../web/native.mjs';
import { Hosts, missing } from './hosts.mjs';

const SIZE = 10 << 20;
const listen = (...addresses) => addresses.flatMap((address) => ['--listen', address]);

test('four machines on a network that breaks', { timeout: 480_000 }, async (t) => {
  const why = await missing();
  if (why) return t.skip(why);
  const hosts = await Hosts.make(t);
  const folder = await scratch(t);
  const data = path(folder, 'data');
  const hub = await hosts.add('hub', 1);
  const relay = new Child(t, ['--data', path(folder, 'relay'), 'relay', '--http', '127.0.0.1:0', ...listen('/ip4/192.0.2.1/tcp/9601')], hub);
  const { addresses: [address] } = await relay.line((line) => line.role === 'relay', 'ready line');
  await run('--data', data, 'domain', 'create', 'the yard');
  const link = await run('--data', data, 'invite', '--page', 'http://192.0.2.1/', '--relay', address);
  const manager = new Child(t, ['--data', data, 'manager', '--relay', address, ...listen('/ip4/192.0.2.1/tcp/9602')], hub);
  await manager.line((line) => line.role === 'manager', 'ready line');
  const names = ['a', 'b', 'c'];
  const all = await Promise.all(names.map(async (name, i) => {
    const place = await hosts.add(name, 2 + i);
    return Native.open(t, path(folder, name), link, { place, more: listen('/ip4/0.0.0.0/tcp/0', '/ip4/0.0.0.0/udp/0/quic-v1') });
  }));
  const [a, b, c] = all;

  /** Waits until each of these sees exactly those. */
  const see = async (who, whom, ms, what) => {
    const start = Date.now();
    const ids = whom.map((one) => one.id).sort().join();
    for (let missing = who; missing.length;) {
      const lists = await Promise.all(missing.map((one) => one.here()));
      assert.ok(Date.now() - start < ms, `${what}: ${JSON.stringify(lists)} instead of ${ids}`);
      missing = missing.filter((_, i) => lists[i].sort().join() !== ids);
      await new Promise((resolve) => { setTimeout(resolve, 100); });
    }
    return Date.now() - start;
  };

  /** Everyone sees everyone, and 10 MiB go from each to each. */
  const whole = async (part, what) => {
    const seen = await see(all, all, 90_000, what);
    const start = Date.now();
    await Promise.all(all.map(async (one) => {
      const others = all.filter((other) => other !== one);
      const hash = await one.send(others.map((other) => other.id), SIZE);
      await Promise.all(others.map((other) => other.got(one.id, hash)));
    }));
    part.diagnostic(`${what}: all see all after ${seen} ms, ${SIZE >> 20} MiB from each to each after ${Date.now() - start} ms more`);
  };

  await t.test('they join', (part) => whole(part, 'joined'));

  await t.test('what is under way when a cable is cut arrives once it is mended', async (part) => {
    const sending = a.send([b.id], SIZE);
    const sent = async () => (await a.ask({ cmd: 'links' })).links.find((one) => one.peer === b.id || one.node === b.id)?.sent ?? 0;
    const before = await sent();
    while ((await sent()) - before < 1 << 20) await new Promise((resolve) => { setTimeout(resolve, 5); });
    await hosts.cut('a');
    await new Promise((resolve) => { setTimeout(resolve, 6_000); });
    await hosts.mend('a');
    const start = Date.now();
    await b.got(a.id, await sending);
    part.diagnostic(`the rest was there ${Date.now() - start} ms after the cable was mended`);
  });

  await t.test('who is cut off is missed, and misses the others, until the cable is mended', async (part) => {
    await hosts.cut('a');
    const missed = await see([b, c], [b, c], 60_000, 'cut off');
    await see([a], [a], 60_000, 'alone');
    part.diagnostic(`missed after ${missed} ms`);
    await hosts.mend('a');
    await whole(part, 'mended');
  });

  await t.test('a machine gets another address', async (part) => {
    await hosts.readdress('c', 33);
    await whole(part, 'another address');
  });

  await t.test('the machine of relay and manager is cut off', async (part) => {
    await hosts.cut('hub');
    await whole(part, 'without relay and manager');
    await hosts.mend('hub');
    await whole(part, 'with both again');
  });
});
