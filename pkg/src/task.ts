import type { DomainCore, JobCore, TaskCore } from '../gen/peerage.js';
import { call, coded, PeerageError, wait } from './error.js';
import { disposeSymbol } from './events.js';
import { bytesOf, cancelled, Source, type Content } from './source.js';
import type { Json } from './state.js';
import type { Capability, Codec, Where } from './types.js';

/** How much input or output is gathered in memory, bytes: it is somebody else who sends it. More is for `stream()`. */
const GATHERED = 256 * 1024 * 1024;
/** How often a supplier's load is asked for, ms, and by how much it has to change to be told, percent. */
const LOOK = 5_000;
const CHANGED = 10;

/** How {@link Domain.serve} does its work. */
export interface ServeOptions<I, O> {
  /** How many tasks at once. @defaultValue that of the capability, or 1 */
  concurrency?: number;
  /** How busy this participant is with other things, 0 to 100 percent; asked every few seconds. */
  load?: () => number;
  /** How the input is read. @defaultValue bytes */
  input?: Codec<I>;
  /** How what the handler returns is written. @defaultValue bytes, a `Blob` or a stream of bytes */
  output?: Codec<O>;
}

/** How {@link Domain.request} asks. */
export interface RequestOptions<I, O> {
  /** What the supplier's capability has to satisfy. */
  where?: Where;
  /** Of several who are free: whoever is least busy (`idle`), or nearest, for tasks with much to send (`near`). @defaultValue 'idle' */
  prefer?: 'idle' | 'near';
  /** When nobody is free: `wait`, `fail`, or take whoever has the capability, whatever `where` says (`any`). @defaultValue 'wait' */
  policy?: 'wait' | 'fail' | 'any';
  /** How long it may take, all attempts together. @defaultValue an hour */
  timeoutMs?: number;
  /** How the input is written. @defaultValue bytes, a `Blob` or a stream of bytes; a stream can be sent once, to one supplier */
  input?: Codec<I>;
  /** How the output is read. @defaultValue bytes */
  output?: Codec<O>;
  signal?: AbortSignal;
}

/** What happens to a task. */
export type TaskEvent =
  /** A supplier has begun; what an earlier one put out counts no more. Attempts are counted from 1. */
  | { type: 'begun'; supplier: string; attempt: number }
  /** How far it is, in the capability's own form. */
  | { type: 'progress'; value: Json }
  /** An attempt failed; another follows if there may be one. */
  | { type: 'lost'; supplier: string; error: PeerageError };

/** A task of another participant's, as the handler gets it. */
export class Job<I = Uint8Array> {
  /** The task's id: the same if it is asked for again after a supplier was lost. */
  readonly id: string;
  /** Who asks: its node id, authenticated. */
  readonly demander: string;
  /** Aborted when nobody waits for the result any more. */
  readonly signal: AbortSignal;
  readonly #core: JobCore;
  readonly #codec: Codec<I> | undefined;

  /** @internal */
  constructor(core: JobCore, codec: Codec<I> | undefined) {
    this.#core = core;
    this.#codec = codec;
    this.id = core.id;
    this.demander = core.demander;
    const gone = new AbortController();
    this.signal = gone.signal;
    void core.gone().then(() => gone.abort(new PeerageError('aborted', 'nobody waits for this task any more')));
  }

  /** All of the input, up to 256 MiB: more ends the task with `too-large`. */
  async input(): Promise<I> {
    const all = new Gathered('input');
    for (let part; (part = await wait(() => this.#core.next()));) all.add(part);
    const bytes = await all.bytes();
    return this.#codec ? this.#codec.decode(bytes) : bytes as I;
  }

  /** The input as it comes: of any size, and no faster than it is read. */
  stream(): ReadableStream<Uint8Array> {
    return pulled(() => wait(() => this.#core.next()));
  }

  /** Tells how far it is; the demander sees the newest. At most 64 KiB as JSON. */
  async progress(value: Json): Promise<void> {
    await wait(() => this.#core.progress(new TextEncoder().encode(JSON.stringify(value))));
  }
}

/** What does a capability's work. What it throws is told to the demander: `supplier-failed` and `busy` send the task to another supplier. */
export type TaskHandler<I, O> = (job: Job<I>) => Promise<O | Content> | O | Content;

/** @internal */
export function serve<I, O>(core: DomainCore, named: string | Capability, handler: TaskHandler<I, O>, options: ServeOptions<I, O>): Disposable & (() => void) {
  const { concurrency, load } = options;
  const capability: Capability = { ...(typeof named === 'string' ? { name: named } : named) };
  if (concurrency !== undefined) capability.capacity = concurrency;
  const busy = () => Math.round(Math.min(100, Math.max(0, load!())));
  if (load) capability.load = busy();
  const run = async (inner: JobCore) => {
    const result = await handler(new Job(inner, options.input));
    const source = new Source(bytesOf(result, options.output).stream);
    for (let part; (part = await source.next());) await inner.write(part);
  };
  const offer = () => call(() => core.serve(capability, run));
  offer();
  const timer = load && setInterval(() => {
    const now = busy();
    if (Math.abs(now - capability.load!) < CHANGED) return;
    capability.load = now;
    try {
      offer();
    } catch {
      clearInterval(timer);
    }
  }, LOOK);
  const off = () => {
    clearInterval(timer);
    try {
      core.withdraw(capability.name);
    } catch {
      // In a domain that was left nothing is offered.
    }
  };
  return Object.assign(off, { [disposeSymbol]: off });
}

/** Something asked of others: the promise of the result, and, iterated, what happens until then. */
export class Task<O = Uint8Array> implements Promise<O>, AsyncIterable<TaskEvent> {
  readonly id: string;
  readonly [Symbol.toStringTag] = 'Task';
  readonly #core: TaskCore;
  readonly #result: Promise<O>;
  readonly #stop = new AbortController();
  readonly #readers = new Set<Reader>();
  #sink: WritableStreamDefaultWriter<Uint8Array> | undefined;

  /** @internal */
  constructor(core: TaskCore, codec: Codec<O> | undefined, signal: AbortSignal | undefined) {
    this.#core = core;
    this.id = core.id;
    if (signal?.aborted) this.#stop.abort(signal.reason);
    signal?.addEventListener('abort', () => this.#stop.abort(signal.reason), { signal: this.#stop.signal });
    // A turn later, so that whoever asks can say first how it wants the output.
    this.#result = Promise.resolve().then(() => this.#run()).then((bytes) => codec ? codec.decode(bytes) : bytes as O);
    // Who only iterates hears of a failure there.
    this.#result.catch(() => {});
  }

  /** Ends the task; the promise rejects with `aborted`. */
  cancel(reason?: unknown): void {
    this.#stop.abort(reason);
  }

  /**
   * The output as it comes, instead of all of it at the end: the promise then resolves to nothing but the end. To be called at once. When
   * a supplier is lost after some of its output was read, the task fails with `supplier-failed`, for that cannot be taken back.
   */
  stream(): ReadableStream<Uint8Array> {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    this.#sink = writable.getWriter();
    // Told by the readable side.
    this.#sink.closed.catch(() => this.cancel());
    return readable;
  }

  then<A = O, B = never>(done?: ((value: O) => A | PromiseLike<A>) | null, failed?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<A | B> {
    return this.#result.then(done, failed);
  }

  catch<B = never>(failed?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<O | B> {
    return this.#result.catch(failed);
  }

  finally(always?: (() => void) | null): Promise<O> {
    return this.#result.finally(always);
  }

  /** What happens from now on; ends with the task, and throws what it failed with. Progress that nobody took is replaced by newer. */
  async *[Symbol.asyncIterator](): AsyncGenerator<TaskEvent, void, void> {
    const reader: Reader = { queue: [], wake: () => {} };
    let ended = false;
    const end = () => { ended = true; reader.wake(); };
    this.#result.then(end, end);
    this.#readers.add(reader);
    try {
      for (;;) {
        const next = reader.queue.shift();
        if (next) yield next;
        else if (ended) break;
        else await new Promise<void>((wake) => { reader.wake = wake; });
      }
      await this.#result;
    } finally {
      this.#readers.delete(reader);
    }
  }

  async #run(): Promise<Uint8Array> {
    const cancel = cancelled(this.#stop.signal);
    try {
      const bytes = await this.#steps(cancel);
      await this.#sink?.close();
      return bytes;
    } catch (thrown) {
      const { aborted, reason } = this.#stop.signal;
      const error = aborted && coded(thrown) instanceof PeerageError ? new PeerageError('aborted', 'the task was cancelled', { cause: reason }) : coded(thrown);
      await this.#sink?.abort(error).catch(() => {});
      throw error;
    } finally {
      this.#stop.abort();
      this.#core.free();
    }
  }

  /** Goes on until the task is done; its output, unless somebody reads it meanwhile. */
  async #steps(cancel: Promise<undefined>): Promise<Uint8Array> {
    let all = new Gathered('output');
    let read = false;
    for (let step; (step = await this.#core.next(cancel) as Step | undefined);) {
      if (step[0] === 'begun') {
        if (read) throw new PeerageError('supplier-failed', 'the supplier was lost after a part of its output was read', { retryable: true });
        all = new Gathered('output');
        this.#tell({ type: 'begun', supplier: step[1], attempt: step[2] });
      } else if (step[0] === 'progress') {
        this.#tell({ type: 'progress', value: said(step[1]) });
      } else if (step[0] === 'lost') {
        this.#tell({ type: 'lost', supplier: step[1], error: coded(step[2]) as PeerageError });
      } else if (this.#sink) {
        read = true;
        await this.#sink.ready;
        await this.#sink.write(step[1]);
      } else {
        all.add(step[1]);
      }
    }
    return all.bytes();
  }

  #tell(event: TaskEvent): void {
    for (const { queue, wake } of this.#readers) {
      if (event.type === 'progress' && queue.at(-1)?.type === 'progress') queue.pop();
      queue.push(event);
      wake();
    }
  }
}

/** @internal */
export function request<I, O>(core: DomainCore, capability: string, input: I | Content, options: RequestOptions<I, O>): Task<O> {
  const { where = {}, prefer = 'idle', policy = 'wait', timeoutMs = 3_600_000, signal } = options;
  const content = bytesOf(input, options.input);
  return new Task<O>(call(() => core.request({ capability, where }, policy, prefer, timeoutMs, () => new Source(content.stream))), options.output, signal);
}

type Step = ['begun', string, number] | ['progress', Uint8Array] | ['output', Uint8Array] | ['lost', string, unknown];

/** Bytes that somebody else sends, put together. */
class Gathered {
  readonly #what: string;
  readonly #parts: Uint8Array[] = [];
  #size = 0;

  constructor(what: string) {
    this.#what = what;
  }

  add(part: Uint8Array): void {
    this.#size += part.length;
    if (this.#size > GATHERED) throw new PeerageError('too-large', `the ${this.#what} is over ${GATHERED} bytes`, { hint: 'Read it with stream().' });
    this.#parts.push(part);
  }

  async bytes(): Promise<Uint8Array> {
    return new Uint8Array(await new Blob(this.#parts as Uint8Array<ArrayBuffer>[]).arrayBuffer());
  }
}

interface Reader { queue: TaskEvent[]; wake: () => void }

/** JSON, or else the text that some other program wrote. */
function said(bytes: Uint8Array): Json {
  const text = new TextDecoder().decode(bytes);
  try {
    return JSON.parse(text) as Json;
  } catch {
    return text;
  }
}

function pulled(next: () => Promise<Uint8Array | undefined>): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      const part = await next();
      if (part) controller.enqueue(part);
      else controller.close();
    },
  }, { highWaterMark: 0 });
}
