import { PeerageError } from './error.js';

/** One lock for each identity that this browser keeps: a tab that runs a node under it holds it. */
const LOCK = 'peerage/slot/';
/** So many identities of its own a browser keeps, for as many tabs at once. */
const SLOTS = 16;
/** Where a tab notes its slot, for its next page. */
const NOTE = 'peerage.slot';
/** How long that page waits for this tab's last one to let go, ms. A copy of a tab waits for nothing, so it is bounded. */
const OWN = 5_000;
/** How long a new tab waits for the first slot, which a tab that is being closed this very moment may hold, ms. */
const FIRST = 100;

/** The right to run a node under the identity of this number; `release` gives it on. @internal */
export interface Slot { readonly number: number; release(): void }

/**
 * The slot that this tab had, if it is free, or else the first that is. With `wait` it is the first one or none: it is waited for until
 * `signal` gives up. `undefined`: all are taken.
 * @internal
 */
export async function takeSlot(wait: boolean, signal?: AbortSignal): Promise<Slot | undefined> {
  const slot = wait ? await request(0, signal ? { signal } : {}, signal) : await anyFree(signal);
  if (slot) note(slot.number);
  return slot;
}

async function anyFree(caller?: AbortSignal): Promise<Slot | undefined> {
  const own = noted();
  const mine = own === undefined ? undefined : await within(own, OWN, caller);
  if (mine) return mine;
  for (let number = 0; number < SLOTS; number += 1) {
    const slot = await (number === 0 ? within(number, FIRST, caller) : request(number, { ifAvailable: true }, caller));
    if (slot) return slot;
  }
  return undefined;
}

/** The slot if it is free within this time, ms. */
async function within(number: number, time: number, caller: AbortSignal | undefined): Promise<Slot | undefined> {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), time);
  try {
    return await request(number, { signal: patience.signal }, caller);
  } finally {
    clearTimeout(timer);
  }
}

function request(number: number, options: LockOptions, caller: AbortSignal | undefined): Promise<Slot | undefined> {
  return new Promise((resolve, reject) => {
    const held = (lock: Lock | null) => {
      if (!lock) return resolve(undefined);
      return new Promise<void>((release) => resolve({ number, release }));
    };
    navigator.locks.request(LOCK + number, options, held).catch((cause: unknown) => {
      if (caller?.aborted) reject(new PeerageError('aborted', 'the call was cancelled', { cause: caller.reason }));
      else if (options.signal?.aborted) resolve(undefined);
      else reject(new PeerageError('storage', 'the browser gave no lock on a stored identity', { cause }));
    });
  });
}

function noted(): number | undefined {
  try {
    const number = Number(sessionStorage.getItem(NOTE) ?? Number.NaN);
    return Number.isInteger(number) && number >= 0 && number < SLOTS ? number : undefined;
  } catch {
    return undefined;
  }
}

function note(number: number): void {
  try {
    sessionStorage.setItem(NOTE, String(number));
  } catch {
    // Without it the next page of this tab takes the first free slot, most often the same.
  }
}
