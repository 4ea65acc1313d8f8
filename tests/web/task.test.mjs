// Tasks from tabs: served by tabs and by natives, asked for by tabs and natives; suppliers that fail, are busy, or are closed meanwhile.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { inMemory } from './evidence.mjs';
import { browser, Child, direct, domain, joined, reached, run, scratch, scripts, until } from './harness.mjs';

const before = [scripts.withoutWebGl];
const LISTEN = ['--listen', '/ip4/127.0.0.1/tcp/0', '--listen', '/ip4/127.0.0.1/tcp/0/ws', '--listen', '/ip4/127.0.0.1/udp/0/webrtc-direct'];

/** Waits in a tab until so many offer a capability. */
const offered = (page, capability, count = 1) => until(page, ([capability, count]) =>
  window.peerage.domain.participants({ capability, online: true }).length === count, [capability, count], `${capability} is not offered by ${count}`);

/** What a task in a tab came to: its events, and its result or the code it failed with. */
const asked = (page, capability, input, options = {}) => page.evaluate(async ([capability, input, options]) => {
  const json = { encode: (v) => new TextEncoder().encode(JSON.stringify(v)), decode: (b) => JSON.parse(new TextDecoder().decode(b)) };
  const task = window.peerage.domain.request(capability, input, { input: json, output: json, ...options });
  const events = [];
  const heard = (async () => { for await (const event of task) events.push(event); })().catch(() => {});
  const end = await task.then((result) => ({ result }), (error) => ({ code: error.code, message: error.message }));
  await heard;
  return { ...end, events };
}, [capability, input, options]);

test('tabs and natives have things done by one another', { timeout: 300_000 }, async (t) => {
  const home = await domain(t);
  const started = await browser(t);
  const [a, b, c] = [await joined(started, home.link, { before }), await joined(started, home.link, { before }), await joined(started, home.link, { before })];
  const native = new Child(t, ['--data', await scratch(t), 'join', home.link, ...LISTEN, '--serve', 'count=wc -c']);
  native.node = (await native.line((line) => line.event === 'joined', 'joined')).node;
  const asker = await scratch(t);
  await direct(a, [b.node, c.node]);

  await t.test('a tab for a tab, with what happens until then', async () => {
    await b.evaluate(() => {
      const json = { encode: (v) => new TextEncoder().encode(JSON.stringify(v)), decode: (b) => JSON.parse(new TextDecoder().decode(b)) };
      window.served = window.peerage.domain.serve({ name: 'sum', attributes: { exact: true } }, async (job) => {
        const numbers = await job.input();
        await job.progress({ numbers: numbers.length, for: job.demander });
        return numbers.reduce((x, y) => x + y, 0);
      }, { input: json, output: json, concurrency: 2 });
    });
    await offered(a, 'sum');
    const { result, events } = await asked(a, 'sum', [1, 2, 39], { where: { exact: true } });
    assert.equal(result, 42);
    assert.deepEqual(events, [{ type: 'begun', supplier: b.node, attempt: 1 }, { type: 'progress', value: { numbers: 3, for: a.node } }]);
    const shown = await a.evaluate(() => window.peerage.domain.participants({ capability: 'sum' })[0].capabilities);
    const sum = shown.filter(({ name }) => name === 'sum');
    assert.deepEqual(sum.map(({ name, capacity, attributes }) => ({ name, capacity, attributes })), [{ name: 'sum', capacity: 2, attributes: { exact: true } }]);
    assert.equal((await asked(a, 'sum', [], { where: { exact: false }, policy: 'fail' })).code, 'no-participant');
    assert.equal((await asked(a, 'sum', [1], { where: { exact: false }, policy: 'any' })).result, 1);
    // What is served is offered besides what is advertised, and no longer than it is served.
    // For some only: by who they are, or by what they hold.
    await b.evaluate((ann) => { window.served(); window.served = window.peerage.domain.serve('sum', () => 'welcome', { for: ['evict', ann], output: { encode: (v) => new TextEncoder().encode(JSON.stringify(v)), decode: String } }); }, a.node);
    await until(c, (who) => window.peerage.domain.participants({ capability: 'sum', where: { for: who } }).length === 1, `evict ${a.node}`, 'it is not offered to some only');
    assert.equal((await asked(c, 'sum', null, { policy: 'fail' })).code, 'no-participant');
    await until(a, (who) => window.peerage.domain.participants({ capability: 'sum', where: { for: who } }).length === 1, `evict ${a.node}`, 'it is not offered to some only');
    assert.equal((await asked(a, 'sum', null)).result, 'welcome');
    assert.equal(await b.evaluate(() => { try { window.peerage.domain.serve('sum', () => 0, { for: 'everybody' }); } catch (error) { return error.code; } }), 'bad-argument');
    const [named, known] = await a.evaluate(() => { const { domain } = window.peerage; return [domain.invitation()?.id, domain.invitations().map(({ id }) => id)]; });
    assert.ok(known.includes(named), `${named} is not among ${known}`);
    await b.evaluate(() => window.peerage.domain.advertise([{ name: 'smile' }]));
    await until(a, () => window.peerage.domain.participants({ capability: 'smile' })[0]?.capabilities.length === 2, null, 'not both are offered');
    await b.evaluate(() => window.served());
    await offered(a, 'sum', 0);
    await offered(a, 'smile');
    assert.equal((await asked(a, 'sum', [1], { policy: 'fail' })).code, 'no-participant');
  });

  await t.test('a native command for a tab, and a tab for a native; the manager has nothing of it', async () => {
    const marker = randomBytes(48).toString('base64url');
    await b.evaluate(() => window.peerage.domain.serve('upper', async (job) => {
      await job.progress('reading');
      const text = new TextDecoder().decode(await job.input());
      return new TextEncoder().encode(text.toUpperCase());
    }));
    await offered(a, 'count');
    const counted = await a.evaluate(async (marker) => new TextDecoder().decode(await window.peerage.domain.request('count', new Blob([marker.repeat(50_000)]))), marker);
    assert.equal(Number(counted), 50_000 * 64);
    await writeFile(join(asker, 'in'), marker.repeat(1_000));
    await run('--data', asker, 'task', '--link', home.link, 'request', 'upper', join(asker, 'in'), join(asker, 'out'));
    assert.equal(await readFile(join(asker, 'out'), 'utf8'), marker.repeat(1_000).toUpperCase());
    const needles = { marker: Buffer.from(marker), upper: Buffer.from(marker.toUpperCase()), relay: Buffer.from(home.relay.id) };
    assert.deepEqual((await inMemory(home.manager.child.pid, needles)).found, ['relay']);
    assert.ok(!(await readFile(home.records.manager)).includes(marker));
    assert.deepEqual((await inMemory(home.relay.child.pid, needles)).found, ['relay']);
  });

  await t.test('a job of five tasks over two tabs and a native participant, whose results go from one to the other', async () => {
    const marker = randomBytes(48).toString('base64url');
    const serve = (page, name, work) => page.evaluate(([name, work]) => {
      const does = new Function('text', `return ${work}`);
      const text = { encode: (v) => new TextEncoder().encode(v), decode: (b) => new TextDecoder().decode(b) };
      window.peerage.domain.serve(name, (job) => does(text)(job), { input: text, output: text });
    }, [name, work]);
    await serve(b, 'double', '(job) => job.input().then((t) => t + t)');
    await serve(c, 'reverse', "(job) => job.input().then((t) => [...t].reverse().join(''))");
    for (const capability of ['double', 'reverse', 'count']) await offered(a, capability);
    const { results, events } = await a.evaluate(async (marker) => {
      const text = { encode: (v) => new TextEncoder().encode(v), decode: (b) => new TextDecoder().decode(b) };
      const job = window.peerage.domain.submit({ tasks: {
        first: { capability: 'double', input: text.encode(marker) },
        second: { capability: 'reverse', needs: ['first'] },
        counted: { capability: 'count', needs: ['second'], output: text },
        third: { capability: 'double', needs: ['second', 'first'], input: text.encode('own ') },
        last: { capability: 'reverse', needs: ['third'], output: text },
      } });
      const events = [];
      for await (const event of job) events.push(event);
      return { results: await job, events };
    }, marker);
    const first = marker + marker;
    const second = [...first].reverse().join('');
    const third = `own ${second}${first}`.repeat(2);
    assert.deepEqual(Object.keys(results).sort(), ['counted', 'last'], 'only what nobody needs comes back');
    assert.equal(Number(results.counted), second.length);
    assert.equal(results.last, [...third].reverse().join(''));
    const kept = Object.fromEntries(events.filter((e) => e.type === 'kept').map(({ task, supplier, size }) => [task, { supplier, size }]));
    assert.deepEqual(kept, {
      first: { supplier: b.node, size: first.length }, second: { supplier: c.node, size: second.length }, third: { supplier: b.node, size: third.length },
    });
    assert.equal(events.find((e) => e.task === 'counted' && e.type === 'begun').supplier, native.node);
    assert.deepEqual(events.filter((e) => e.type === 'done').map((e) => e.task).sort(), ['counted', 'last']);
    assert.ok(!(await readFile(home.records.manager)).includes(marker));
    // What cannot be is refused at once, and a job can be cancelled.
    const codes = await a.evaluate(async () => {
      const code = (job) => job.then(() => 'none', (error) => `${error.code} ${error.message}`);
      const { domain } = window.peerage;
      let circle;
      try { domain.submit({ tasks: { a: { capability: 'x', needs: ['a'] } } }); } catch (error) { circle = error.code; }
      const waits = domain.submit({ tasks: { a: { capability: 'never offered' } } });
      setTimeout(() => waits.cancel('enough'), 100);
      return [circle, await code(waits)];
    });
    assert.deepEqual(codes.map((c) => c.split(' ')[0]), ['bad-argument', 'aborted']);
  });

  await t.test('32 MiB through a tab and back, as they come', async () => {
    await b.evaluate(() => window.peerage.domain.serve('echo', (job) => job.stream()));
    await offered(a, 'echo');
    const came = await a.evaluate(async () => {
      const part = (i) => new Uint8Array(1 << 20).fill(i);
      let sent = 0;
      let ahead = 0;
      let got = 0;
      const input = new ReadableStream({ pull(controller) { controller.enqueue(part(sent)); if ((sent += 1) === 32) controller.close(); } }, { highWaterMark: 0 });
      const task = window.peerage.domain.request('echo', input);
      const lost = [];
      void (async () => { for await (const event of task) if (event.type === 'lost') lost.push(event.error.message); })().catch(() => {});
      for await (const bytes of task.stream()) {
        for (const at of [0, bytes.length - 1]) if (bytes[at] !== (got + at) >> 20) throw new Error(`byte ${got + at} is ${bytes[at]}`);
        got += bytes.length;
        ahead = Math.max(ahead, sent * (1 << 20) - got);
      }
      await task.catch((error) => { throw new Error(`${error.message} ${lost}`); });
      return { got, ahead };
    });
    assert.equal(came.got, 32 << 20);
    assert.ok(came.ahead < 16 << 20, `${came.ahead} bytes were under way at once: nobody waited for anybody`);
  });

  await t.test('who is busy or fails sends the task on; who says that it cannot be done ends it', async () => {
    await b.evaluate(() => window.peerage.domain.serve('try', () => { throw Object.assign(new Error('not now'), { code: 'supplier-failed' }); }, { load: () => 0 }));
    await offered(a, 'try');
    await c.evaluate(() => window.peerage.domain.serve('try', async (job) => (await job.input()).length > 0 ? new Uint8Array([7]) : Promise.reject(new Error('there is no input')), { load: () => 90 }));
    await offered(a, 'try', 2);
    const tried = await a.evaluate(async () => {
      const task = window.peerage.domain.request('try', new Uint8Array(1));
      const events = [];
      for await (const { type, supplier, error } of task) events.push([type, supplier, error?.code]);
      return { events, result: [...await task] };
    });
    assert.deepEqual(tried.result, [7]);
    assert.deepEqual(tried.events.filter(([type]) => type === 'lost').map(([, ...rest]) => rest), [[b.node, 'supplier-failed']]);
    assert.deepEqual(tried.events.at(-1).slice(0, 2), ['begun', c.node]);
    const failed = await a.evaluate(() => window.peerage.domain.request('try').catch(({ code, message }) => ({ code, message })));
    assert.deepEqual(failed, { code: 'task-failed', message: 'there is no input' });
  });

  await t.test('a cancelled task ends at its supplier too; a supplier that is closed is replaced', async () => {
    for (const page of [b, c]) {
      await page.evaluate(() => {
        window.jobs = [];
        window.peerage.domain.serve('slow', async (job) => {
          window.jobs.push(job);
          await job.progress('working');
          await new Promise((resolve, reject) => { window.finish = resolve; job.signal.addEventListener('abort', () => reject(job.signal.reason)); });
          return new TextEncoder().encode(`done by ${window.peerage.node.id}`);
        });
      });
    }
    await offered(a, 'slow', 2);
    const { code, cause, supplier } = await a.evaluate(async () => {
      const gone = new AbortController();
      const task = window.peerage.domain.request('slow', undefined, { signal: gone.signal });
      let supplier;
      for await (const event of task) {
        supplier ??= event.supplier;
        if (event.type === 'progress') { gone.abort('enough'); break; }
      }
      return { supplier, ...await task.catch(({ code, cause }) => ({ code, cause })) };
    });
    assert.deepEqual([code, cause], ['aborted', 'enough']);
    const did = [b, c].find(({ node }) => node === supplier);
    await until(did, () => window.jobs[0].signal.aborted, null, 'the supplier works on');

    await a.evaluate(() => {
      window.seen = [];
      window.task = window.peerage.domain.request('slow');
      (async () => { for await (const event of window.task) window.seen.push(event); })();
    });
    await until(a, () => window.seen.some(({ type }) => type === 'progress'), null, 'nobody works');
    const first = await a.evaluate(() => window.seen.find(({ type }) => type === 'begun').supplier);
    const [gone, other] = first === b.node ? [b, c] : [c, b];
    await gone.close();
    await until(a, (other) => window.seen.some(({ type, supplier }) => type === 'begun' && supplier === other), other.node, 'no other one begins');
    await until(other, () => window.finish, null, 'it does not work');
    await other.evaluate(() => window.finish());
    assert.equal(await a.evaluate(async () => new TextDecoder().decode(await window.task)), `done by ${other.node}`);
    assert.equal(await a.evaluate(() => window.seen.filter(({ type }) => type === 'lost').length), 1);
  });
});

test('a stream outlives the link that it was opened on, and the next one takes the better link', { timeout: 300_000 }, async (t) => {
  const home = await domain(t);
  const started = await browser(t);
  const late = { before: [scripts.withoutWebGl, scripts.lateIce] };
  const [a, b] = [await joined(started, home.link, late), await joined(started, home.link, late)];
  await reached(a, [b.node], 'relayed');
  await b.evaluate(() => window.peerage.domain.serve('echo', (job) => job.stream()));
  await offered(a, 'echo');
  const size = 8 << 20;
  await a.evaluate((size) => {
    const goes = new Promise((resolve) => { window.go = resolve; });
    let sent = 0;
    const input = new ReadableStream({
      async pull(controller) {
        if (sent > 0) await goes;
        controller.enqueue(new Uint8Array(1 << 20));
        if ((sent += 1 << 20) === size) controller.close();
      },
    });
    window.task = window.peerage.domain.request('echo', input);
    [window.got, window.lost] = [0, []];
    void (async () => { for await (const event of window.task) if (event.type === 'lost') window.lost.push(event.error.message); })().catch(() => {});
    window.done = (async () => { for await (const bytes of window.task.stream()) window.got += bytes.length; await window.task; })();
    window.done.catch(() => {});
  }, size);
  await until(a, () => window.got === 1 << 20, null, 'the first part does not come back');
  await Promise.all([a, b].map((page) => page.evaluate(() => window.heldIce())));
  await direct(a, [b.node]);
  await until(a, (id) => window.peerage.node.links().filter(({ peer }) => peer === id).length === 1, b.node, 'the relayed link stays');
  const before = await home.relay.received();
  await a.evaluate(async () => { window.go(); await window.done.catch((error) => { throw new Error(`${error.message} ${window.lost}`); }); });
  assert.deepEqual(await a.evaluate(() => [window.got, window.lost]), [size, []]);
  const between = await home.relay.received();
  assert.ok(between - before >= size, `${between - before} bytes went through the relay: it was no stream of the relayed link`);
  await a.evaluate(async (size) => { await window.peerage.domain.request('echo', new Uint8Array(size)); }, size);
  assert.ok(await home.relay.received() - between < size / 2, 'the next one went through the relay');
});

test('who takes input or output slowly holds back who sends it, and loses nothing', { timeout: 300_000 }, async (t) => {
  const home = await domain(t);
  const started = await browser(t);
  const [a, b] = [await joined(started, home.link, { before }), await joined(started, home.link, { before })];
  await direct(a, [b.node]);
  // More than a tab takes of what it does not read.
  const size = 40 << 20;
  const source = `(size, count) => { let sent = 0; return new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(1 << 20)); count(sent += 1 << 20); if (sent === size) c.close(); } }, { highWaterMark: 0 }); }`;
  await b.evaluate(([size, source]) => {
    const gate = () => { let open; const gate = new Promise((resolve) => { open = resolve; }); return Object.assign(gate, { open }); };
    Object.assign(window, { read: gate(), put: 0 });
    window.peerage.domain.serve('slow reader', async (job) => {
      let got = 0;
      for await (const part of job.stream()) { got += part.length; await window.read; }
      return new TextEncoder().encode(String(got));
    });
    // Here and now: later the page's policy forbids it.
    const make = new Function(`return ${source}`)();
    window.peerage.domain.serve('writer', () => make(size, (sent) => { window.put = sent; }));
  }, [size, source]);
  for (const name of ['slow reader', 'writer']) await offered(a, name);

  const still = async (page, name) => {
    // It goes as far as it may, and no further while nobody reads.
    await until(page, (name) => window[name] > 0, name, 'nothing is sent');
    await page.waitForFunction((name) => {
      const now = performance.now();
      if (window[name] !== window.last?.value) window.last = { value: window[name], since: now };
      return now - window.last.since > 3_000;
    }, name, { polling: 200, timeout: 60_000 });
    const sent = await page.evaluate((name) => window[name], name);
    assert.ok(sent < 8 << 20, `${sent} bytes were under way`);
  };

  await t.test('a supplier', async () => {
    await a.evaluate(([size, source]) => {
      window.given = 0;
      window.counted = window.peerage.domain.request('slow reader', new Function(`return ${source}`)()(size, (sent) => { window.given = sent; })).then((bytes) => Number(new TextDecoder().decode(bytes)));
    }, [size, source]);
    await still(a, 'given');
    await b.evaluate(() => window.read.open());
    assert.equal(await a.evaluate(() => window.counted), size);
  });

  await t.test('a demander', async () => {
    const first = await a.evaluate(async () => {
      window.reader = window.peerage.domain.request('writer').stream().getReader();
      return (await window.reader.read()).value.length;
    });
    await still(b, 'put');
    assert.equal(await a.evaluate(async () => {
      let rest = 0;
      for (;;) { const { value, done } = await window.reader.read(); if (done) return rest; rest += value.length; }
    }), size - first);
  });
});
