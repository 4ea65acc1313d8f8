// Eight tabs at once: each finds all others, all are connected directly, and they notice who goes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { browser, direct, domain, joined, scripts, until } from './harness.mjs';

test('eight tabs join at once, all 28 pairs become direct, poses reach everyone, and six leave', { timeout: 480_000 }, async (t) => {
  const home = await domain(t);
  const started = await browser(t);
  const tabs = await Promise.all(Array.from({ length: 8 }, () => joined(started, home.link, { before: [scripts.withoutWebGl] })));
  const ids = tabs.map((page) => page.node);
  assert.equal(new Set(ids).size, 8);
  const others = (page) => ids.filter((id) => id !== page.node);
  const each = (work) => Promise.all(tabs.map(work));

  await t.test('each lists all others, from its own directory', () => each((page) => until(page, (ids) => {
    const here = window.peerage.domain.participants({ capability: 'room/avatar', online: true }).filter((p) => !p.isSelf).map((p) => p.id);
    return here.length === ids.length && ids.every((id) => here.includes(id));
  }, others(page), 'the directory is not complete')));

  await t.test('all pairs become direct', async () => {
    await each((page) => direct(page, others(page)));
    const paths = await each((page) => page.evaluate((ids) => window.peerage.domain.links().filter((l) => ids.includes(l.peer) && l.path === 'direct').map((l) => l.peer), others(page)));
    const pairs = new Set(paths.flatMap((peers, i) => peers.map((peer) => [ids[i], peer].sort().join())));
    assert.equal(pairs.size, 28);
  });

  await t.test('the pose of each reaches everyone', async () => {
    // Where nobody stood before: what arrives there was sent now.
    const at = (i) => ({ x: -7 + 2 * i, z: 7.25 });
    await each((page, i) => page.evaluate((at) => Object.assign(window.peerage.control.pose, at), at(tabs.indexOf(page))));
    await each((page) => until(page, (all) => all.every(([id, x, z]) => {
      const pose = window.peerage.shared.poses.get(id);
      return pose && Math.abs(pose.x - x) < 0.01 && Math.abs(pose.z - z) < 0.01;
    }), ids.map((id, i) => [id, at(i).x, at(i).z]).filter(([id]) => id !== page.node), 'a pose did not arrive'));
  });

  await t.test('all but two close, and the rest see them leave', async () => {
    const [first, second, ...gone] = tabs;
    await Promise.all(gone.map((page) => page.close()));
    for (const [page, other] of [[first, second], [second, first]]) {
      await until(page, (other) => {
        const here = window.peerage.domain.participants({ capability: 'room/avatar', online: true }).filter((p) => !p.isSelf);
        return here.length === 1 && here[0].id === other;
      }, other.node, 'somebody who left is listed, or somebody who stayed is not');
      await until(page, (ids) => window.peerage.domain.links().every((link) => link.path === 'connecting' || !ids.includes(link.peer)), gone.map((page) => page.node), 'a link to somebody who left');
      assert.deepEqual(page.faults, []);
    }
  });
});
