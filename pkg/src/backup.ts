import { wordlist } from '../gen/wordlist.js';
import { PeerageError } from './error.js';

// The layout is that of `peerage domain backup`: docs/protocol.md section 14.
const HEAD = new TextEncoder().encode('peerageB');
const FORMAT = 1;
const ROUNDS = 600_000;
const MOST_ROUNDS = 10_000_000;
const SALT = 16;
const NONCE = 12;
const HEADER = HEAD.length + 1 + 4 + SALT + NONCE;

/** Seals an owner's bundle under a passphrase. @internal */
export async function seal(bundle: Uint8Array<ArrayBuffer>, passphrase: string): Promise<Uint8Array> {
  if ([...passphrase].length < 8) throw new PeerageError('bad-argument', 'a passphrase has at least 8 characters');
  const header = new Uint8Array(HEADER);
  header.set(HEAD);
  header[HEAD.length] = FORMAT;
  new DataView(header.buffer).setUint32(HEAD.length + 1, ROUNDS);
  crypto.getRandomValues(header.subarray(HEADER - SALT - NONCE));
  const sealed = await crypto.subtle.encrypt(cipher(header), await derive(header, passphrase, ROUNDS), bundle);
  bundle.fill(0);
  return new Uint8Array(await new Blob([header, sealed]).arrayBuffer());
}

/** The bundle in a backup. @internal */
export async function open(file: Uint8Array, passphrase: string): Promise<Uint8Array> {
  const header = new Uint8Array(file.slice(0, HEADER));
  if (header.length < HEADER || !HEAD.every((byte, i) => header[i] === byte)) throw new PeerageError('malformed', 'this is no backup of a domain');
  if (header[HEAD.length] !== FORMAT) throw new PeerageError('malformed', 'this backup comes from a newer version of this program', { hint: 'Update the page.' });
  const rounds = new DataView(header.buffer).getUint32(HEAD.length + 1);
  if (rounds < 1 || rounds > MOST_ROUNDS) throw new PeerageError('malformed', 'this is no backup of a domain');
  const key = await derive(header, passphrase, rounds);
  try {
    return new Uint8Array(await crypto.subtle.decrypt(cipher(header), key, new Uint8Array(file.slice(HEADER))));
  } catch (cause) {
    throw new PeerageError('forbidden', 'the backup does not open: the passphrase is another one, or the file was changed', { cause });
  }
}

function cipher(header: Uint8Array<ArrayBuffer>): AesGcmParams {
  return { name: 'AES-GCM', iv: header.slice(HEADER - NONCE), additionalData: header };
}

async function derive(header: Uint8Array<ArrayBuffer>, passphrase: string, iterations: number): Promise<CryptoKey> {
  if (!crypto.subtle) throw new PeerageError('unsupported', 'the page is not in a secure context (https or localhost)');
  const secret = await crypto.subtle.importKey('raw', new TextEncoder().encode(passphrase.normalize('NFKC')), 'PBKDF2', false, ['deriveKey']);
  const salt = header.slice(HEADER - NONCE - SALT, HEADER - NONCE);
  return crypto.subtle.deriveKey({ name: 'PBKDF2', hash: 'SHA-256', salt, iterations }, secret, { name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']);
}

/** 32 bytes as 24 words of BIP 39. @internal */
export async function words(seed: Uint8Array<ArrayBuffer>): Promise<string> {
  const bits = [...seed, await checksum(seed)].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return Array.from({ length: 24 }, (_, i) => wordlist[parseInt(bits.slice(11 * i, 11 * i + 11), 2)]).join(' ');
}

/** The 32 bytes that 24 words say. @internal */
export async function fromWords(said: string): Promise<Uint8Array> {
  const indices = said.trim().toLowerCase().split(/\s+/).map((word) => wordlist.indexOf(word));
  const bits = indices.map((index) => index.toString(2).padStart(11, '0')).join('');
  const seed = Uint8Array.from({ length: 32 }, (_, i) => parseInt(bits.slice(8 * i, 8 * i + 8), 2));
  if (indices.length !== 24 || indices.includes(-1) || parseInt(bits.slice(256), 2) !== await checksum(seed)) {
    throw new PeerageError('bad-argument', 'these are not the 24 words of a root key', { hint: 'A word may be misspelt, missing or in another place.' });
  }
  return seed;
}

async function checksum(seed: Uint8Array<ArrayBuffer>): Promise<number> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', seed))[0] ?? 0;
}
