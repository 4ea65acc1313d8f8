import { PeerageError } from './error.js';
import type { Codec } from './types.js';

/** Bytes: at hand, in a file, or as they come. */
export type Content = Blob | BufferSource | ReadableStream<Uint8Array>;

/** Reads a stream for wasm: parts that are not empty, then `undefined`. @internal */
export class Source {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;

  constructor(stream: ReadableStream<Uint8Array> | (() => ReadableStream<Uint8Array>)) {
    this.#reader = (typeof stream === 'function' ? stream() : stream).getReader();
  }

  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      const { done, value } = await this.#reader.read();
      if (done) return undefined;
      if (value.length > 0) return value;
    }
  }

  cancel(): void {
    this.#reader.cancel().catch(() => {});
  }
}

/** A value as bytes: by the codec, or as they are, or none. `stream` begins anew each time, but for a value that is a stream. @internal */
export function bytesOf<T>(value: T | Content, codec?: Codec<T>): { blob?: Blob; stream: () => ReadableStream<Uint8Array> } {
  if (value instanceof ReadableStream) {
    return {
      stream: () => {
        if (value.locked) throw new PeerageError('supplier-failed', 'the supplier was lost, and a stream can be sent only once', { retryable: true, hint: 'Give a Blob, or ask again with a new stream.' });
        return value;
      },
    };
  }
  let blob: Blob;
  if (codec) blob = new Blob([codec.encode(value as T) as BlobPart]);
  else if (value instanceof Blob) blob = value;
  else if (value === undefined || value instanceof ArrayBuffer || ArrayBuffer.isView(value)) blob = new Blob(value === undefined ? [] : [value as BlobPart]);
  else throw new TypeError('without a codec only bytes, a Blob or a stream of bytes can be sent');
  return { blob, stream: () => blob.stream() };
}

/** Resolves once the signal is aborted. @internal */
export function cancelled(signal: AbortSignal | undefined): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal?.aborted) resolve(undefined);
    signal?.addEventListener('abort', () => resolve(undefined), { once: true });
  });
}
