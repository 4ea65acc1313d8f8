import type { ChannelCore } from '../gen/peerage.js';
import { call, wait } from './error.js';
import { disposeSymbol } from './events.js';
import type { Codec } from './types.js';

/** What is known of a message besides its value. */
export interface Meta {
  /** Who sent it: its node id, authenticated. */
  readonly from: string;
  /** When, in milliseconds since the Unix epoch by the sender's clock. */
  readonly sentAt: number;
  /** The key it was sent under, on a `latest` or `datagram` channel. */
  readonly key?: string;
}

/** A message, as the async iterator gives it. */
export interface Message<T> extends Meta { readonly value: T }

/** What a channel promises of the messages on it: see {@link ChannelOptions.mode}. */
export type Mode = 'reliable' | 'latest' | 'datagram';

/** How a channel behaves. */
export interface ChannelOptions<T> {
  /**
   * `reliable`: every message, in order per sender. `latest`: the newest value per key; older ones may be skipped. `datagram`: what the network
   * carries at once; what is lost or late never comes, and nothing waits for it. @defaultValue 'reliable'
   */
  mode?: Mode;
  /** @defaultValue bytes as they are */
  codec?: Codec<T>;
  /** On a `latest` channel: which value replaces which. @defaultValue one key per sender */
  key?: (value: T) => string;
}

/** Whom to send to. */
export interface SendOptions {
  /** One or more node ids. @defaultValue every other participant online */
  to?: string | string[];
}

interface Raw { from: string; sentAt: number; key?: string; payload: Uint8Array }
/** Messages an iterator may lag behind before the channel stops taking more, which in turn slows the senders. */
const AHEAD = 64;

/** A named way to exchange values with the other participants of a domain. The manager has no key for it. */
export class Channel<T = Uint8Array> implements AsyncIterable<Message<T>> {
  readonly name: string;
  readonly mode: Mode;
  readonly #core: ChannelCore;
  readonly #codec: Codec<T> | undefined;
  readonly #key: ((value: T) => string) | undefined;
  readonly #report: (error: unknown) => void;
  readonly #handlers = new Set<(value: T, meta: Meta) => void>();
  readonly #readers = new Set<Reader<T>>();
  #pumping = false;
  #closed = false;

  /** @internal */
  constructor(core: ChannelCore, name: string, options: ChannelOptions<T>, report: (error: unknown) => void) {
    this.#core = core;
    this.name = name;
    this.mode = options.mode ?? 'reliable';
    this.#codec = options.codec;
    this.#key = options.key;
    this.#report = report;
  }

  /**
   * Sends, and resolves when every recipient's window has taken all of it. At most 64 MiB on `reliable`, 15 KiB on `latest`,
   * 900 bytes on `datagram`, which is sent at once or dropped. Rejects with
   * `no-participant` if one of those named in `to` was gone before that, and says who; the others have it.
   */
  async send(value: T, options: SendOptions = {}): Promise<void> {
    await wait(() => this.#core.send(this.#encode(value), recipients(options), this.#key?.(value)));
  }

  /** Sends what can be sent now and never waits. `false`: dropped for at least one recipient. */
  post(value: T, options: SendOptions = {}): boolean {
    return call(() => this.#core.post(this.#encode(value), recipients(options), this.#key?.(value)));
  }

  /** Calls `handler` for every message until what it returns is disposed of or called. */
  on(handler: (value: T, meta: Meta) => void): Disposable & (() => void) {
    this.#handlers.add(handler);
    this.#start();
    const off = () => void this.#handlers.delete(handler);
    return Object.assign(off, { [disposeSymbol]: off });
  }

  /** The messages from now on. A reader that stands still slows the senders of a `reliable` channel. */
  [Symbol.asyncIterator](): AsyncIterator<Message<T>> {
    const reader = new Reader<T>(() => this.#readers.delete(reader));
    if (this.#closed) reader.end();
    else this.#readers.add(reader);
    this.#start();
    return reader;
  }

  /** Stops receiving; running iterations end. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#core.close();
    this.#end();
  }

  [disposeSymbol](): void {
    this.close();
  }

  #encode(value: T): Uint8Array {
    return this.#codec ? this.#codec.encode(value) : (value as Uint8Array);
  }

  #start(): void {
    if (this.#pumping || this.#closed) return;
    this.#pumping = true;
    void this.#pump();
  }

  async #pump(): Promise<void> {
    while (!this.#closed) {
      let raw = (await this.#core.receive()) as Raw | undefined;
      if (raw === undefined) break;
      for (; raw !== undefined && !this.#closed; raw = this.#core.tryReceive() as Raw | undefined) {
        this.#deliver(raw);
        for (const reader of this.#readers) await reader.room();
      }
    }
    this.#closed = true;
    this.#end();
  }

  #deliver({ payload, ...meta }: Raw): void {
    let value: T;
    try {
      value = this.#codec ? this.#codec.decode(payload) : (payload as T);
    } catch (error) {
      this.#report(error);
      return;
    }
    for (const reader of this.#readers) reader.push({ ...meta, value });
    for (const handler of this.#handlers) {
      try {
        handler(value, meta);
      } catch (error) {
        this.#report(error);
      }
    }
  }

  #end(): void {
    for (const reader of this.#readers) reader.end();
    this.#readers.clear();
    this.#handlers.clear();
  }
}

function recipients({ to }: SendOptions): string[] | undefined {
  return typeof to === 'string' ? [to] : to;
}

/** One running iteration. */
class Reader<T> implements AsyncIterator<Message<T>> {
  readonly #queue: Message<T>[] = [];
  readonly #waiting: ((result: IteratorResult<Message<T>>) => void)[] = [];
  readonly #leave: () => void;
  #room: (() => void) | undefined;
  #ended = false;

  constructor(leave: () => void) {
    this.#leave = leave;
  }

  push(message: Message<T>): void {
    const next = this.#waiting.shift();
    if (next) next({ done: false, value: message });
    else this.#queue.push(message);
  }

  async room(): Promise<void> {
    while (this.#queue.length >= AHEAD && !this.#ended) await new Promise<void>((resolve) => { this.#room = resolve; });
  }

  end(): void {
    this.#ended = true;
    this.#room?.();
    for (const next of this.#waiting.splice(0)) next({ done: true, value: undefined });
  }

  async next(): Promise<IteratorResult<Message<T>>> {
    const value = this.#queue.shift();
    this.#room?.();
    if (value !== undefined) return { done: false, value };
    if (this.#ended) return { done: true, value: undefined };
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async return(): Promise<IteratorResult<Message<T>>> {
    this.#queue.length = 0;
    this.end();
    this.#leave();
    return { done: true, value: undefined };
  }
}
