import load from '../gen/peerage.js';
import { PeerageError } from './error.js';

/** Where the wasm file is. */
export interface InitOptions {
  /** Its address, a response to a request for it, its bytes, or the compiled module. @defaultValue next to the package's JavaScript */
  wasm?: URL | Response | BufferSource | WebAssembly.Module;
}

let loading: Promise<void> | undefined;

/** Loads the wasm file, once. Optional: {@link Node.start} calls it. After a failure it may be called again. */
export function init(options: InitOptions = {}): Promise<void> {
  loading ??= start(options).catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

async function start({ wasm }: InitOptions): Promise<void> {
  if (typeof WebAssembly === 'undefined') throw new PeerageError('unsupported', 'this environment has no WebAssembly', { hint: 'Use a browser of 2023 or later.' });
  try {
    await load(wasm === undefined ? undefined : { module_or_path: wasm });
  } catch (cause) {
    throw new PeerageError('unsupported', 'the wasm file could not be loaded', {
      retryable: true, cause,
      hint: 'Serve peerage_bg.wasm next to the JavaScript, pass init({ wasm }), or import peerage/inline. A content security policy must allow wasm-unsafe-eval.',
    });
  }
}
