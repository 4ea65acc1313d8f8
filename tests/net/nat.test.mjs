// Two tabs on machines behind routers of every kind: which way they find to each other, and how soon. The relay outside is all that they
// know of, and answers STUN itself.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { at } from '../../scripts/lib.mjs';
import { browser, domain, serve, tab } from '../web/harness.mjs';
import { Hosts, routerless } from './hosts.mjs';

/** The kinds of both routers, and the way that is to be found. */
const SCENES = [
  ['full cone', 'full cone', 'direct'],
  ['full cone', 'symmetric', 'direct'],
  ['restricted', 'restricted', 'direct'],
  ['symmetric', 'symmetric', 'relayed'],
  ['no udp', 'restricted', 'relayed'],
  ['only 443', 'restricted', 'relayed'],
];

/** What a tab runs: joins, keeps what it hears and when. */
const enter = async (link) => {
  const { Node } = await import('/dist/index.js');
  const start = performance.now();
  const node = await Node.start();
  const [heard, failed] = [{}, []];
  node.addEventListener('directfailed', ({ detail }) => failed.push(detail.id));
  const domain = await node.join(link);
  const joined = performance.now() - start;
  domain.channel('news').on((text, { from }) => { heard[from] ??= performance.now() - start; });
  Object.assign(window, { node, domain, start, heard, failed });
  return { id: node.id, joined };
};

/** Tells the other one until that one is heard; when, and which way is left once one was found or given up. */
const find = async (other) => {
  const { domain, node, start, heard, failed } = window;
  const ways = () => node.links().filter((link) => link.peer === other).map((link) => link.path);
  const rest = () => new Promise((resolve) => { setTimeout(resolve, 20); });
  while (!ways().length) await rest();
  await domain.channel('news').send('hello', { to: [other] });
  while (!heard[other]) await rest();
  while (!ways().includes('direct') && !failed.includes(other)) await rest();
  return { heard: heard[other], way: ways().includes('direct') ? 'direct' : 'relayed', after: performance.now() - start };
};

test('two tabs behind routers find the best way that there is', { timeout: 600_000 }, async (t) => {
  const why = await routerless();
  if (why) return t.skip(why);
  const hosts = await Hosts.make(t);
  const hub = await hosts.add('hub', 1);
  const home = await domain(t, {
    place: hub, listen: ['/ip4/192.0.2.1/tcp/443/ws'], hint: (address) => address.includes('/ws/') || address.includes('/webtransport/'),
  });
  const names = ['a', 'b'];
  const windows = await Promise.all(names.map(async (name, i) => {
    const place = await hosts.behind(name, 10 + i, 'restricted');
    return { started: await browser(t, place), url: `${await serve(t, at('pkg'), { '/tab.html': '<!doctype html>' }, place)}tab.html` };
  }));
  const rows = [];
  for (const [first, second, way] of SCENES) {
    await Promise.all([first, second].map((kind, i) => hosts.route(names[i], 10 + i, kind)));
    const pages = await Promise.all(windows.map(async ({ started, url }) => {
      const page = await tab(started);
      await page.goto(url);
      return page;
    }));
    const ends = await Promise.all(pages.map((page) => page.evaluate(enter, home.link)));
    const found = await Promise.all(pages.map((page, i) => page.evaluate(find, ends[1 - i].id)));
    rows.push({ routers: `${first} / ${second}`, way: found[0].way, joined: Math.max(...ends.map((e) => e.joined)), heard: Math.max(...found.map((f) => f.heard)), after: Math.max(...found.map((f) => f.after)) });
    assert.deepEqual(found.map((f) => f.way), [way, way], `${first} / ${second}`);
    if (first.startsWith('no') || first.startsWith('only')) {
      // Who is behind such a router is told so, and the other is not.
      const reports = await Promise.all(pages.map((page) => page.evaluate(() => window.node.diagnose())));
      assert.deepEqual(reports.map((r) => r.blocked.filter((b) => b !== 'storage')), [['udp'], []], JSON.stringify(reports));
    }
    await Promise.all(pages.map((page) => page.context().close()));
  }
  t.diagnostic('routers                   way       joined   first message   way settled');
  for (const { routers, way, ...times } of rows) {
    const [joined, heard, after] = [times.joined, times.heard, times.after].map((ms) => `${Math.round(ms)} ms`);
    t.diagnostic(`${routers.padEnd(26)}${way.padEnd(9)}${joined.padStart(7)}${heard.padStart(16)}${after.padStart(14)}`);
  }
});
