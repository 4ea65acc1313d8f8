// The page before anybody is let in: refusals with their code, what stays of the invitation, and how it fits a phone.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { at } from '../../scripts/lib.mjs';
import { browser, serve, tab } from './harness.mjs';

const PHONE = { viewport: { width: 360, height: 640 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

/** Opens the page and waits until it has said what is wrong. */
async function refused(t, path, options) {
  const page = await tab(await browser(t), options);
  const requests = [];
  page.on('request', (request) => requests.push(request.url()));
  const base = await serve(t, at('www/dist'));
  await page.goto(base + path);
  await page.waitForSelector('html[data-state="failed"]');
  return { page, base, requests, code: await page.getAttribute('html', 'data-code') };
}

test('without an invitation the page says what is needed', async (t) => {
  const { page, code } = await refused(t, '');
  assert.equal(code, 'no-invitation');
  assert.match(await page.textContent('#gate'), /Open the whole link/);
  assert.deepEqual(page.faults, []);
});

test('a garbled invitation is refused with its code, and a reload does not try it again', async (t) => {
  const { page, code } = await refused(t, '#cut-short');
  assert.equal(code, 'invite-garbled');
  assert.notEqual((await page.textContent('#gate-hint')).trim(), '');
  assert.equal(await page.textContent('#gate-code'), 'invite-garbled');
  await page.reload();
  await page.waitForSelector('html[data-code="no-invitation"]');
  assert.deepEqual(page.faults, []);
});

test('the secret leaves the address bar, and no request carries it or goes elsewhere', async (t) => {
  const { page, base, requests } = await refused(t, '#a-secret');
  assert.equal(page.url(), base);
  assert.ok(requests.length > 2);
  // What the browser asked for after the first navigation; fragments are never sent, so the first one shows it harmlessly.
  for (const url of requests.slice(1)) assert.ok(url.startsWith(base) && !url.includes('a-secret'), url);
});

test('it fits a phone, with targets large enough for a thumb', async (t) => {
  const { page } = await refused(t, '', PHONE);
  const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight);
  assert.ok(await fits());
  // The controls have their sizes already; only the state hides them.
  await page.evaluate(() => { document.documentElement.dataset.state = 'joined'; });
  assert.ok(await fits());
  const controls = await page.$$eval('nav button, footer button:not([hidden]), footer input', (all) => all.map((e) => {
    const { left, right, top, bottom, width, height } = e.getBoundingClientRect();
    return { name: e.textContent || e.getAttribute('aria-label') || e.id, inside: left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight, width, height };
  }));
  assert.ok(controls.length >= 8);
  for (const { name, inside, width, height } of controls) assert.ok(inside && width >= 44 && height >= 44, `${name}: ${width}x${height}, inside: ${inside}`);
});
