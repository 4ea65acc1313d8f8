import { coded, PeerageError } from './error.js';
import { cancelled } from './source.js';

/** Something under way: the promise of its result, and, iterated, what happens until then. */
export abstract class Running<R, E extends { type: string }> implements Promise<R>, AsyncIterable<E> {
  abstract readonly [Symbol.toStringTag]: string;
  readonly #result: Promise<R>;
  readonly #stop = new AbortController();
  readonly #readers = new Set<Reader<E>>();

  /** @internal */
  protected constructor(signal: AbortSignal | undefined) {
    if (signal?.aborted) this.#stop.abort(signal.reason);
    signal?.addEventListener('abort', () => this.#stop.abort(signal.reason), { signal: this.#stop.signal });
    // A turn later, so that whoever asks can say first how it wants the output.
    this.#result = Promise.resolve().then(() => this.#run());
    // Who only iterates hears of a failure there.
    this.#result.catch(() => {});
  }

  /** Ends it; the promise rejects with `aborted`. */
  cancel(reason?: unknown): void {
    this.#stop.abort(reason);
  }

  then<A = R, B = never>(done?: ((value: R) => A | PromiseLike<A>) | null, failed?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<A | B> {
    return this.#result.then(done, failed);
  }

  catch<B = never>(failed?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<R | B> {
    return this.#result.catch(failed);
  }

  finally(always?: (() => void) | null): Promise<R> {
    return this.#result.finally(always);
  }

  /** What happens from now on; ends with it, and throws what it failed with. Progress that nobody took is replaced by newer. */
  async *[Symbol.asyncIterator](): AsyncGenerator<E, void, void> {
    const reader: Reader<E> = { queue: [], wake: () => {} };
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

  /** Carries it out. @internal */
  protected abstract run(cancel: Promise<undefined>): Promise<R>;
  /** It failed with this. @internal */
  protected async failed(_error: unknown): Promise<void> {}
  /** It is over. @internal */
  protected abstract free(): void;

  /** Tells what happened; progress takes the place of the last event, if that is still there and is of the same kind. @internal */
  protected tell(event: E, replaces: (last: E) => boolean): void {
    for (const { queue, wake } of this.#readers) {
      const last = queue.at(-1);
      if (event.type === 'progress' && last && replaces(last)) queue.pop();
      queue.push(event);
      wake();
    }
  }

  async #run(): Promise<R> {
    try {
      return await this.run(cancelled(this.#stop.signal));
    } catch (thrown) {
      const { aborted, reason } = this.#stop.signal;
      const error = aborted && coded(thrown) instanceof PeerageError ? new PeerageError('aborted', 'it was cancelled', { cause: reason }) : coded(thrown);
      await this.failed(error);
      throw error;
    } finally {
      this.#stop.abort();
      this.free();
    }
  }
}

interface Reader<E> { queue: E[]; wake: () => void }
