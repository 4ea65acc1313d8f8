import type { DomainCore } from '../gen/peerage.js';
import { call } from './error.js';
import type { Domain } from './domain.js';

/** Anything that JSON has. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** What was written under a key. */
export interface StateEntry {
  readonly key: string;
  readonly value: Json;
  /** The id of whoever wrote it, proven by a signature. */
  readonly by: string;
  readonly at: Date;
}

/**
 * A small map that every participant holds whole: anchors, poses of fixed things, names. Each key has the value written last, also
 * after the network was divided; whoever joins late has all of it; it is kept with the domain. Reading is local and synchronous.
 * A key has 1 to 128 bytes, a value at most 8 KiB as JSON, the map 4,096 keys and 4 MiB. The manager cannot read it.
 */
export class SharedState {
  readonly #core: DomainCore;
  readonly #domain: Domain;

  /** @internal */
  constructor(core: DomainCore, domain: Domain) {
    this.#core = core;
    this.#domain = domain;
  }

  /** The value under a key. */
  get(key: string): Json | undefined {
    return this.entry(key)?.value;
  }

  /** The value under a key, with who wrote it and when. */
  entry(key: string): StateEntry | undefined {
    return read(call(() => this.#core.stateEntry(key)) as Raw | undefined);
  }

  /** All entries whose keys begin so, by key. */
  entries(prefix = ''): StateEntry[] {
    return (call(() => this.#core.stateEntries(prefix)) as Raw[]).flatMap((raw) => read(raw) ?? []);
  }

  /** Writes a value under a key. Here at once, elsewhere as soon as it gets there. */
  set(key: string, value: Json): void {
    call(() => this.#core.writeState(key, JSON.stringify(value)));
  }

  /** Deletes a key. */
  delete(key: string): void {
    call(() => this.#core.writeState(key, undefined));
  }

  /**
   * Calls `changed` for every key that begins with `prefix`: first with what is there, then with each change; without an entry
   * when it was deleted. Ends with the `signal`, or what is returned.
   */
  watch(changed: (key: string, entry: StateEntry | undefined) => void, { prefix = '', signal }: { prefix?: string; signal?: AbortSignal } = {}): () => void {
    const hear = (event: CustomEvent<{ key: string }>) => {
      const { key } = event.detail;
      if (key.startsWith(prefix)) changed(key, this.entry(key));
    };
    this.#domain.addEventListener('state', hear, { ...(signal && { signal }) });
    if (!signal?.aborted) for (const entry of this.entries(prefix)) changed(entry.key, entry);
    return () => this.#domain.removeEventListener('state', hear);
  }
}

interface Raw { key: string; value: string; by: string; at: number }

/** What some other program wrote and is no JSON is no entry here. */
function read(raw: Raw | undefined): StateEntry | undefined {
  if (!raw) return undefined;
  try {
    return { key: raw.key, value: JSON.parse(raw.value) as Json, by: raw.by, at: new Date(raw.at) };
  } catch {
    return undefined;
  }
}
