import { PeerageError } from './error.js';

/** Named bytes, as the wasm file wants them. It seals what it gives and opens what it gets: nothing here is readable. @internal */
export interface RecordStore {
  get(name: string): Promise<Uint8Array | undefined>;
  names(): Promise<string[]>;
  /** All or nothing; a missing value deletes. */
  write(names: string[], values: (Uint8Array | undefined)[]): Promise<void>;
}

/** A store, and the key under which its records are sealed. @internal */
export interface Opened { records: RecordStore; key: Uint8Array }

/** A store that is gone with the page. @internal */
export function inMemory(): Opened {
  const records = new Map<string, Uint8Array>();
  return {
    key: crypto.getRandomValues(new Uint8Array(32)),
    records: {
      get: async (name) => records.get(name),
      names: async () => [...records.keys()].sort(),
      write: async (names, values) => names.forEach((name, i) => {
        const value = values[i];
        if (value) records.set(name, value);
        else records.delete(name);
      }),
    },
  };
}

const DATABASE = 'peerage';
const RECORDS = 'records';
const KEYS = 'keys';

/** The part of this origin's store in IndexedDB that belongs to a slot. Only who holds the slot may ask for it. @internal */
export async function inBrowser(slot: number): Promise<Opened> {
  try {
    const database = await open();
    return { records: new Indexed(database, slot), key: await sealingKey(database, slot) };
  } catch (cause) {
    throw new PeerageError('storage', 'the browser did not open its store', { cause, hint: 'Private windows and full disks may be why. Nothing was changed.' });
  }
}

/** Why nothing can be stored here, if so. @internal */
export function unstorable(): string | undefined {
  if (typeof indexedDB === 'undefined') return 'there is no IndexedDB';
  if (typeof crypto === 'undefined' || !crypto.subtle) return 'the page is not in a secure context (https or localhost)';
  if (typeof navigator === 'undefined' || !navigator.locks) return 'there are no Web Locks';
  return undefined;
}

function open(): Promise<IDBDatabase> {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore(RECORDS);
    request.result.createObjectStore(KEYS);
  };
  return result(request).then((database) => {
    // Another tab with a newer version of this program, or the deletion of the site's data, must not wait for this one.
    database.onversionchange = () => database.close();
    return database;
  });
}

/**
 * The key under which records are sealed: a function of a key that no script can read out of the browser. Whoever copies the
 * records alone has nothing.
 */
async function sealingKey(database: IDBDatabase, slot: number): Promise<Uint8Array> {
  const fresh = await crypto.subtle.generateKey({ name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  const transaction = database.transaction(KEYS, 'readwrite', { durability: 'strict' });
  const keys = transaction.objectStore(KEYS);
  const kept = await result<CryptoKey | undefined>(keys.get('device'));
  if (!kept) keys.put(fresh, 'device');
  await done(transaction);
  return new Uint8Array(await crypto.subtle.sign('HMAC', kept ?? fresh, new TextEncoder().encode(`peerage/1/store/${slot}`)));
}

/** Records under `[slot, name]`. */
class Indexed implements RecordStore {
  readonly #database: IDBDatabase;
  readonly #slot: number;

  constructor(database: IDBDatabase, slot: number) {
    this.#database = database;
    this.#slot = slot;
  }

  async get(name: string): Promise<Uint8Array | undefined> {
    return result<Uint8Array | undefined>(this.#database.transaction(RECORDS).objectStore(RECORDS).get([this.#slot, name]));
  }

  async names(): Promise<string[]> {
    // Every text comes before every list.
    const all = IDBKeyRange.bound([this.#slot], [this.#slot, []]);
    const keys = await result(this.#database.transaction(RECORDS).objectStore(RECORDS).getAllKeys(all));
    return (keys as [number, string][]).map(([, name]) => name);
  }

  async write(names: string[], values: (Uint8Array | undefined)[]): Promise<void> {
    // Strict: the answer comes when it is on disk.
    const transaction = this.#database.transaction(RECORDS, 'readwrite', { durability: 'strict' });
    const records = transaction.objectStore(RECORDS);
    names.forEach((name, i) => {
      const key = [this.#slot, name];
      if (values[i]) records.put(values[i], key);
      else records.delete(key);
    });
    await done(transaction);
  }
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    if (request instanceof IDBOpenDBRequest) request.onblocked = () => reject(new Error('another tab holds an older version open'));
  });
}

function done(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });
}
