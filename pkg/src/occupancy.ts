/**
 * The capability `map/occupancy`: a scan (PLY, OBJ or GLB) becomes an occupancy grid.
 *
 * ```js
 * import { grid, occupancy } from 'peerage/occupancy';
 * domain.serve('map/occupancy', occupancy());                                  // in the tabs that help
 * const { dims, cells } = grid(await domain.request('map/occupancy', file));   // in any tab
 * ```
 *
 * @packageDocumentation
 */
import load, { OccupancyCore } from '../gen/occupancy.js';
import { call, PeerageError } from './error.js';
import type { Job, TaskHandler } from './task.js';

/** Units of work at a time: some ten milliseconds, so that a page can draw meanwhile. */
const STEP = 100_000;
/** Milliseconds between two words of progress. */
const TELL = 100;

/** How grids are made. */
export interface OccupancyOptions {
  /** The length of a cell's edge in metres. @defaultValue a 128th of the scan's longest side */
  cell?: number;
  /** Where the wasm file is. @defaultValue next to the package's JavaScript */
  wasm?: URL | Response | BufferSource | WebAssembly.Module;
}

let loading: Promise<unknown> | undefined;

/** Makes a grid of a scan's bytes. `told` hears the part that is done, 0 to 1. Rejects with `bad-argument` or `malformed` for what is no scan. */
export async function makeGrid(scan: Uint8Array, { cell, wasm }: OccupancyOptions = {}, told?: (share: number) => void | Promise<void>): Promise<Uint8Array> {
  loading ??= load(wasm === undefined ? undefined : { module_or_path: wasm });
  loading.catch(() => { loading = undefined; });
  await loading;
  const work = call(() => new OccupancyCore(scan, cell));
  try {
    for (let before = performance.now(), share = 0; (share = call(() => work.step(STEP))) < 1;) {
      // The page's turn.
      await new Promise((resolve) => setTimeout(resolve));
      if (!told || performance.now() - before < TELL) continue;
      before = performance.now();
      await told(share);
    }
    return call(() => work.finish());
  } finally {
    work.free();
  }
}

/** What does the work, for {@link Domain.serve}. */
export function occupancy(options: OccupancyOptions = {}): TaskHandler<Uint8Array, Uint8Array> {
  return async (job: Job) => {
    const scan = await job.input();
    // In a task that was cancelled the next word throws.
    return makeGrid(scan, options, (share) => job.progress({ done: Math.round(share * 1_000), total: 1_000 }));
  };
}

/** An occupancy grid. */
export interface Grid {
  /** Cells along x, y and z. */
  readonly dims: readonly [number, number, number];
  /** The corner with the least coordinates, metres. */
  readonly origin: readonly [number, number, number];
  /** The length of a cell's edge, metres. */
  readonly cell: number;
  /** How many cells are occupied. */
  readonly count: number;
  /** Whether a cell is occupied; none outside is. */
  occupied(x: number, y: number, z: number): boolean;
  /** The occupied cells. */
  cells(): Generator<[x: number, y: number, z: number], void, void>;
}

/** Reads a grid. Throws `malformed` for what is none. */
export function grid(bytes: Uint8Array): Grid {
  const malformed = (what: string) => new PeerageError('malformed', `this is no occupancy grid: ${what}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 40 || view.getUint32(0) !== 0x50474f43 || view.getUint32(4) !== 0x01000000) throw malformed('its head is another');
  const three = (at: number, read: (at: number) => number) => [read(at), read(at + 4), read(at + 8)] as [number, number, number];
  const dims = three(8, (at) => view.getUint32(at, true));
  const [nx, ny, nz] = dims;
  const cells = nx * ny * nz;
  if (cells < 1 || cells > 1 << 24 || bytes.length !== 40 + Math.ceil(cells / 8)) throw malformed('its length is not that of its cells');
  const at = (i: number) => (bytes[40 + (i >> 3)]! >> (i & 7)) & 1;
  const occupied = (x: number, y: number, z: number) => x >= 0 && y >= 0 && z >= 0 && x < nx && y < ny && z < nz && at(x + nx * (y + ny * z)) === 1;
  return {
    dims,
    origin: three(20, (at) => view.getFloat32(at, true)),
    cell: view.getFloat32(32, true),
    count: view.getUint32(36, true),
    occupied,
    *cells() {
      for (let i = 0; i < cells; i += 1) if (at(i) === 1) yield [i % nx, Math.floor(i / nx) % ny, Math.floor(i / (nx * ny))];
    },
  };
}
