import type { DomainCore, JobCore, TaskCore } from '../gen/peerage.js';
import { call, coded, PeerageError, wait } from './error.js';
import { disposeSymbol } from './events.js';
import { Running } from './running.js';
import { bytesOf, Source, type Content } from './source.js';
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
  /**
   * Only for members that show one of these: a node id, the id of the invitation they came with ({@link Invite.id}), or a right (`invite`,
   * `evict`, `store`). Everybody reads it, as the attribute `for`. @defaultValue every member
   */
  for?: string | readonly string[];
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
  if (options.for !== undefined) capability.attributes = { ...capability.attributes, for: [options.for].flat().join(' ') };
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
export class Task<O = Uint8Array> extends Running<O, TaskEvent> {
  readonly id: string;
  readonly [Symbol.toStringTag] = 'Task';
  readonly #core: TaskCore;
  readonly #codec: Codec<O> | undefined;
  #sink: WritableStreamDefaultWriter<Uint8Array> | undefined;

  /** @internal */
  constructor(core: TaskCore, codec: Codec<O> | undefined, signal: AbortSignal | undefined) {
    super(signal);
    this.#core = core;
    this.#codec = codec;
    this.id = core.id;
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

  /** @internal */
  protected async run(cancel: Promise<undefined>): Promise<O> {
    const bytes = await this.#steps(cancel);
    await this.#sink?.close();
    return this.#codec ? this.#codec.decode(bytes) : bytes as O;
  }

  /** @internal */
  protected async failed(error: unknown): Promise<void> {
    await this.#sink?.abort(error).catch(() => {});
  }

  /** @internal */
  protected free(): void {
    this.#core.free();
  }

  /** Goes on until the task is done; its output, unless somebody reads it meanwhile. */
  async #steps(cancel: Promise<undefined>): Promise<Uint8Array> {
    let all = new Gathered('output');
    let read = false;
    for (let step; (step = await this.#core.next(cancel) as Step | undefined);) {
      if (step[0] === 'output' && this.#sink) {
        read = true;
        await this.#sink.ready;
        await this.#sink.write(step[1]);
        continue;
      }
      if (step[0] === 'begun') {
        if (read) throw new PeerageError('supplier-failed', 'the supplier was lost after a part of its output was read', { retryable: true });
        all = new Gathered('output');
      }
      if (step[0] === 'output') all.add(step[1]);
      else this.tell(eventOf(step), (last) => last.type === 'progress');
    }
    return all.bytes();
  }
}

/** @internal */
export function request<I, O>(core: DomainCore, capability: string, input: I | Content, options: RequestOptions<I, O>): Task<O> {
  const { where = {}, prefer = 'idle', policy = 'wait', timeoutMs = 3_600_000, signal } = options;
  const content = bytesOf(input, options.input);
  return new Task<O>(call(() => core.request({ capability, where }, policy, prefer, timeoutMs, () => new Source(content.stream))), options.output, signal);
}

/** What wasm says happened to a task. @internal */
export type Step = ['begun', string, number] | ['progress', Uint8Array] | ['output', Uint8Array] | ['lost', string, unknown];

/** What is told of it. @internal */
export function eventOf(step: Exclude<Step, ['output', Uint8Array]>): TaskEvent {
  switch (step[0]) {
    case 'begun': return { type: 'begun', supplier: step[1], attempt: step[2] };
    case 'progress': return { type: 'progress', value: said(step[1]) };
    case 'lost': return { type: 'lost', supplier: step[1], error: coded(step[2]) as PeerageError };
  }
}

/** Bytes that somebody else sends, put together. @internal */
export class Gathered {
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
