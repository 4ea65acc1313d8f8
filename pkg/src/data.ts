import type { BodyCore, DataCore } from '../gen/peerage.js';
import { PeerageError, wait } from './error.js';
import { bytesOf, cancelled, Source, type Content } from './source.js';
import type { Json } from './state.js';

/** A version of an object. */
export interface Entry {
  /** Names with `/` between, such as `scans/hall.ply`. */
  readonly path: string;
  /** Counted from 1. */
  readonly version: number;
  /** This version says that the object is deleted. */
  readonly deleted: boolean;
  /** Its media type; empty for none. */
  readonly type: string;
  /** Bytes. */
  readonly length: number;
  /** When it was written, by the author's clock. */
  readonly written: Date;
  /** The id of whoever wrote it, proven by a signature. */
  readonly author: string;
  /** What else its author says. */
  readonly meta?: Json;
  /**
   * Only in `history`: this version did not prevail over another one of the same past; two managers took them without knowing of each other.
   * It is read with `get(path, { conflict })`.
   */
  readonly conflict?: string;
}

/** How an object is stored. */
export interface PutOptions {
  /** Its media type. @defaultValue that of a `Blob` */
  type?: string;
  /** What else is to be said of it: at most 3 KiB as JSON. */
  meta?: Json;
  /** Store it only if this is its newest version; `null`: only if there is none. */
  ifVersion?: number | null;
  /** Hears how many bytes are on the manager's disk. */
  onProgress?: (progress: { done: number; total?: number }) => void;
  signal?: AbortSignal;
}

/** What is read of an object. */
export interface GetOptions {
  /** Not the newest version but this one, if it is kept. */
  version?: number;
  /** A version in conflict, as `history` names it. */
  conflict?: string;
  /** From a byte on, up to another one. */
  range?: [from: number, to?: number];
  /** Hears how many bytes came. */
  onProgress?: (progress: { done: number; total: number }) => void;
  signal?: AbortSignal;
}

/** How much is stored and may be: bytes, sealed and filled up. */
export interface Quota {
  readonly used: number;
  readonly quota: number;
  /** By this participant. */
  readonly own: number;
  readonly ownQuota: number;
}

/** Versions that came, and where to go on. */
export interface Change {
  readonly entry: Entry;
  /** For `since`, to go on behind this one and those told with it. */
  readonly cursor: string;
}

/** An object's content. It can be read once. */
export class Body {
  readonly entry: Entry;
  readonly #core: BodyCore;
  readonly #options: GetOptions;

  /** @internal */
  constructor(core: BodyCore, options: GetOptions) {
    this.#core = core;
    this.#options = options;
    this.entry = read(core.entry() as Raw);
  }

  /** As it comes: each part was checked against what its author signed. */
  stream(): ReadableStream<Uint8Array> {
    const { onProgress, signal, range: [from = 0, to = Infinity] = [] } = this.#options;
    const total = Math.max(0, Math.min(to, this.entry.length) - from);
    let done = 0;
    return new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        if (signal?.aborted) throw aborted('get', signal);
        const bytes = await wait(() => this.#core.next());
        if (!bytes) {
          controller.close();
          return;
        }
        done += bytes.length;
        controller.enqueue(bytes);
        onProgress?.({ done, total });
      },
    }, { highWaterMark: 0 });
  }

  async bytes(): Promise<Uint8Array> {
    return new Uint8Array(await new Response(this.stream()).arrayBuffer());
  }

  async blob(): Promise<Blob> {
    return new Blob([await this.bytes() as Uint8Array<ArrayBuffer>], { type: this.entry.type });
  }

  async text(): Promise<string> {
    return new TextDecoder().decode(await this.bytes());
  }

  async json<T = Json>(): Promise<T> {
    return JSON.parse(await this.text()) as T;
  }
}

/**
 * The domain's data: objects by path that all participants can read, and that the domain manager keeps without being able to. They
 * may be of any size: nothing is in memory but what is on its way. A manager that restarts is waited for, and a put goes on where
 * its disk has it; a `File` that is put again after a reload does too.
 */
export class DomainData {
  readonly #open: () => Promise<DataCore>;
  #core: Promise<DataCore> | undefined;

  /** @internal */
  constructor(open: () => Promise<DataCore>) {
    this.#open = open;
  }

  /** Stores an object, or its next version. It is on the manager's disk when the promise resolves. */
  async put(path: string, body: Content, options: PutOptions = {}): Promise<Entry> {
    const { signal, onProgress, meta, ifVersion } = options;
    if (signal?.aborted) throw aborted('put', signal);
    const core = await this.#data();
    const { blob, stream } = bytesOf(body);
    const source = new Source(stream);
    const total = blob?.size;
    const raw = {
      type: options.type ?? blob?.type ?? '',
      meta: meta === undefined ? '' : JSON.stringify(meta),
      ...(ifVersion !== undefined && { expected: ifVersion ?? 0 }),
      // What a browser tells of a file without reading it. Other content under it is noticed, and refused.
      ...(body instanceof File && { resume: JSON.stringify([body.name, body.size, body.lastModified]) }),
    };
    const told = (done: number) => onProgress?.({ done, ...(total !== undefined && { total }) });
    try {
      return read(await wait(() => core.put(path, source, raw, told, cancelled(signal))) as Raw);
    } catch (thrown) {
      throw thrown instanceof PeerageError && thrown.code === 'aborted' && signal ? aborted('put', signal) : thrown;
    } finally {
      source.cancel();
    }
  }

  /** Reads an object. The promise rejects with `no-object` if there is none. */
  async get(path: string, options: GetOptions = {}): Promise<Body> {
    const { signal, version, conflict, range: [from = 0, to] = [] } = options;
    if (signal?.aborted) throw aborted('get', signal);
    const core = await this.#data();
    return new Body(await wait(() => core.get(path, version, conflict, from, to)), options);
  }

  /** The newest versions of all objects whose paths begin so, by path. */
  async *list({ prefix = '' }: { prefix?: string } = {}): AsyncGenerator<Entry, void, void> {
    const core = await this.#data();
    for (const raw of await wait(() => core.list(prefix)) as Raw[]) yield read(raw);
  }

  /** What is there, and then each change, deletions included. `since`: only what came after that cursor. */
  async *watch({ prefix = '', since = '', signal }: { prefix?: string; since?: string; signal?: AbortSignal } = {}): AsyncGenerator<Change, void, void> {
    const core = await this.#data();
    for (let cursor = since; ;) {
      const next = wait(() => core.changes(cursor)) as Promise<{ entries: Raw[]; cursor: string }>;
      const came = await Promise.race([next, cancelled(signal)]);
      if (!came) return;
      cursor = came.cursor;
      for (const entry of came.entries.map(read)) if (entry.path.startsWith(prefix)) yield { entry, cursor };
    }
  }

  /** An object's versions, the newest first, and behind them those in conflict. The content of the oldest may be kept no more. */
  async *history(path: string): AsyncGenerator<Entry, void, void> {
    const core = await this.#data();
    for (const raw of await wait(() => core.history(path)) as Raw[]) yield read(raw);
  }

  /** Deletes an object; with `ifVersion` only if that is its newest version. */
  async delete(path: string, { ifVersion }: { ifVersion?: number } = {}): Promise<void> {
    const core = await this.#data();
    await wait(() => core.delete(path, ifVersion));
  }

  /** How much is stored, and may be. */
  async quota(): Promise<Quota> {
    const core = await this.#data();
    return await wait(() => core.quota()) as Quota;
  }

  #data(): Promise<DataCore> {
    this.#core ??= wait(this.#open);
    // What failed once may work the next time.
    this.#core.catch(() => { this.#core = undefined; });
    return this.#core;
  }
}

interface Raw { path: string; version: number; deleted: boolean; type: string; length: number; written: number; author: string; meta: string; conflict?: string }

function read({ written, meta, ...raw }: Raw): Entry {
  const said = parse(meta);
  return { ...raw, written: new Date(written), ...(said !== undefined && { meta: said }) };
}

/** What some other program wrote and is no JSON says nothing. */
function parse(meta: string): Json | undefined {
  try {
    return meta === '' ? undefined : JSON.parse(meta) as Json;
  } catch {
    return undefined;
  }
}

function aborted(what: string, signal: AbortSignal): PeerageError {
  return new PeerageError('aborted', `the ${what} was cancelled`, { cause: signal.reason });
}
