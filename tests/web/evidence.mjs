// Where bytes may be looked for that must not be there: the memory of a running process, and what a process recorded.
import { open, readFile } from 'node:fs/promises';

const CHUNK = 4 * 1024 * 1024;

/**
 * Which of the needles are in a process's memory: every readable region of it, heap, stacks, mapped files. `needles` maps names
 * to bytes; `bytes` says how much was looked through. Needs the right to read the process: the same user, mostly, or root.
 */
export async function inMemory(pid, needles) {
  const longest = Math.max(...Object.values(needles).map((needle) => needle.length));
  const regions = (await readFile(`/proc/${pid}/maps`, 'utf8')).split('\n').filter(Boolean).map((line) => {
    const [, from, to, rights] = line.match(/^([0-9a-f]+)-([0-9a-f]+) (\S+)/);
    return { from: Number.parseInt(from, 16), to: Number.parseInt(to, 16), rights };
  });
  const memory = await open(`/proc/${pid}/mem`);
  const found = new Set();
  let bytes = 0;
  try {
    const buffer = Buffer.allocUnsafe(CHUNK + longest);
    // Far up there is only the kernel's page of old system calls.
    for (const { from, to } of regions.filter(({ rights, to }) => rights.startsWith('r') && to < Number.MAX_SAFE_INTEGER)) {
      // What is kept of the chunk before, so that nothing hides on the border.
      let kept = 0;
      for (let position = from; position < to;) {
        // EIO: a region that went away meanwhile, or that the kernel shows to nobody.
        const { bytesRead } = await memory.read(buffer, kept, Math.min(to - position, CHUNK), position).catch((error) => {
          if (error.code === 'EIO') return { bytesRead: 0 };
          throw error;
        });
        if (bytesRead === 0) break;
        const filled = buffer.subarray(0, kept + bytesRead);
        for (const [name, needle] of Object.entries(needles)) if (!found.has(name) && filled.includes(needle)) found.add(name);
        kept = Math.min(filled.length, longest - 1);
        buffer.copyWithin(0, filled.length - kept, filled.length);
        position += bytesRead;
        bytes += bytesRead;
      }
    }
  } finally {
    await memory.close();
  }
  return { found: [...found].sort(), bytes };
}

/** A recording of `peerage relay` or `peerage manager`: what came on each of its streams. */
export async function recorded(file) {
  const bytes = await readFile(file);
  const head = Buffer.from('peerage/1/record\n');
  if (!bytes.subarray(0, head.length).equals(head)) throw new Error(`${file} is no recording`);
  const streams = new Map();
  for (let at = head.length; at + 8 <= bytes.length;) {
    const [stream, length] = [bytes.readUInt32BE(at), bytes.readUInt32BE(at + 4)];
    streams.set(stream, [...(streams.get(stream) ?? []), bytes.subarray(at + 8, at + 8 + length)]);
    at += 8 + length;
  }
  return [...streams.values()].map((pieces) => Buffer.concat(pieces));
}

/** Which of the needles came on any of these streams. */
export function inStreams(streams, needles) {
  return Object.entries(needles).filter(([, needle]) => streams.some((stream) => stream.includes(needle))).map(([name]) => name).sort();
}

/** The parts of an invitation link. */
export function parts(link) {
  const fragment = new URL(link).hash.slice(1);
  const [, domain, secret] = fragment.split('.');
  return { fragment, domain: Buffer.from(domain, 'base64url'), secret: Buffer.from(secret, 'base64url') };
}

/** 32 bytes in the forms in which they may be written down. */
export function forms(name, bytes) {
  return {
    [`${name}, raw`]: bytes,
    [`${name}, base64url`]: Buffer.from(bytes.toString('base64url')),
    [`${name}, base64`]: Buffer.from(bytes.toString('base64').replace(/=+$/, '')),
    [`${name}, hex`]: Buffer.from(bytes.toString('hex')),
    [`${name}, HEX`]: Buffer.from(bytes.toString('hex').toUpperCase()),
  };
}

/**
 * A secret in pieces: every eight bytes of it that follow one another, raw and in hex, and every twelve characters of its
 * base64url at each of the three alignments. So a part of it is found too, and so is a longer text that has it inside.
 */
export function shreds(secret, fragment) {
  const needles = { fragment: Buffer.from(fragment) };
  const slide = (name, bytes, width) => {
    for (let at = 0; at + width <= bytes.length; at += 1) needles[`${name} from ${at}`] = bytes.subarray(at, at + width);
  };
  slide('secret, raw', secret, 8);
  slide('secret, hex', Buffer.from(secret.toString('hex')), 16);
  slide('secret, HEX', Buffer.from(secret.toString('hex').toUpperCase()), 16);
  for (const skip of [0, 1, 2]) {
    // What follows the secret in a longer text changes its last characters, so those are left out.
    for (const form of ['base64', 'base64url']) slide(`secret, ${form} ${skip}`, Buffer.from(secret.subarray(skip).toString(form).slice(0, -3)), 12);
  }
  return needles;
}
