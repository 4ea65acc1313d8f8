/**
 * The same package with the wasm file inside the JavaScript, for places that cannot serve another file. A third larger to load.
 *
 * @packageDocumentation
 */
import { base64 } from '../gen/inline.js';
import { init as load, type InitOptions } from './init.js';
import { Node as Base, type StartOptions } from './node.js';

export * from './index.js';

/** As in the main entry, with the wasm file at hand. */
export function init(options: InitOptions = {}): Promise<void> {
  return load({ wasm: options.wasm ?? Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)) });
}

/** As in the main entry, with the wasm file at hand. */
export type Node = Base;
/** As in the main entry, with the wasm file at hand. */
export const Node = {
  async start(options?: StartOptions): Promise<Node> {
    await init();
    return Base.start(options);
  },
};
