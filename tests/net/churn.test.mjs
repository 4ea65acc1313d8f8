// A participant among others that come and go for as long as PEERAGE_TEST_MINUTES says (a minute by default): what it holds of memory,
// files and threads does not grow.
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join as path } from 'node:path';
import { test } from 'node:test';
import { domain } from '../web/harness.mjs';
import { Native } from '../web/native.mjs';

const MINUTES = Number(process.env.PEERAGE_TEST_MINUTES ?? 1);
// glibc keeps what was freed, in an arena for each thread: with 12 to 16 MiB in use, 50 to 126 MiB are resident, now more and now less.
// So that what is resident is what is in use, there is one arena, and what is large goes back at once (mallopt(3)).
Object.assign(process.env, { MALLOC_ARENA_MAX: '1', MALLOC_MMAP_THRESHOLD_: '65536', MALLOC_TRIM_THRESHOLD_: '131072' });
/** How many there are who come and go, each under one identity. */
const GUESTS = 6;

test('who stays while others come and go holds no more for it', { timeout: (MINUTES + 5) * 60_000 }, async (t) => {
  const home = await domain(t);
  const folder = (i) => path(home.folder, `guest-${i}`);
  const stays = await Native.open(t, path(home.folder, 'stays'), home.link);
  const { pid } = stays.child;
  let visits = 0;

  /** One comes, exchanges a parcel with who stays, and goes one way or another. */
  const visit = async (i) => {
    const guest = await Native.open(t, folder(i), home.link);
    while (!(await guest.here()).includes(stays.id)) await new Promise((resolve) => { setTimeout(resolve, 50); });
    const hash = await guest.send([stays.id], 256 * 1024);
    await stays.got(guest.id, hash);
    const back = await stays.send([guest.id], 256 * 1024);
    await guest.got(stays.id, back);
    visits += 1;
    const ways = [() => guest.child.stop('SIGKILL'), () => guest.child.stop('SIGTERM'), () => { guest.child.say({ cmd: 'leave' }); return guest.child.ended; }];
    await ways[visits % ways.length]();
  };

  /** Waits until the process knows that it is alone. */
  const alone = async () => { while ((await stays.here()).length > 1) await new Promise((resolve) => { setTimeout(resolve, 200); }); };

  /** They come and go, each as soon as it can, for so long. */
  const churn = async (ms) => {
    const end = Date.now() + ms;
    await Promise.all(Array.from({ length: GUESTS }, async (_, i) => { while (Date.now() < end) await visit(i); }));
  };

  /** What the process holds. */
  const held = async () => {
    const count = async (what) => (await readdir(`/proc/${pid}/${what}`)).length;
    const kb = Number((await readFile(`/proc/${pid}/status`, 'utf8')).match(/VmRSS:\s+(\d+) kB/)[1]);
    return { files: await count('fd'), threads: await count('task'), mib: kb / 1024 };
  };

  await churn(20_000);
  await alone();
  const before = await held();
  const first = visits;
  await churn(MINUTES * 60_000);
  await alone();
  // Threads for blocking work (files, name look-up) come with the load and end by themselves once they had nothing to do for ten
  // seconds: what still is there half a minute later stays for good.
  const most = { files: before.files + 4, threads: before.threads + 1, mib: before.mib * 1.1 + 4 };
  const within = (what) => Object.keys(most).every((key) => what[key] <= most[key]);
  let after = await held();
  for (const end = Date.now() + 30_000; !within(after) && Date.now() < end; after = await held()) await new Promise((resolve) => { setTimeout(resolve, 500); });
  t.diagnostic(`after ${first} visits ${JSON.stringify(before)}, after ${visits - first} more ${JSON.stringify(after)}`);
  assert.ok(visits - first >= 3 * GUESTS, 'too few came');
  for (const [key, bound] of Object.entries(most)) assert.ok(after[key] <= bound, `${key}: ${before[key]} before, ${after[key]} after`);
});
