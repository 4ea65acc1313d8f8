/** The value of a capability's attribute. Text has at most 256 bytes; whole numbers stay exact up to 2^53. */
export type Attribute = string | number | boolean;

/** Something a participant can do for others. */
export interface Capability {
  /** What, such as `map/reconstruct`; at most 64 bytes. */
  name: string;
  /** The version of its interface. @defaultValue 1 */
  version?: number;
  /** What distinguishes this supplier; at most 16. */
  attributes?: Record<string, Attribute>;
  /** How many tasks it takes at once. @defaultValue 1 */
  capacity?: number;
  /** How busy it is, 0 to 100 percent. @defaultValue 0 */
  load?: number;
}

/** Somebody in a domain's directory. */
export interface Participant {
  /** Its node id, `12D3KooW…`. */
  readonly id: string;
  /** A name for people, chosen by the participant: treat it as text, never as markup. */
  readonly name: string;
  /** What its credential makes it. */
  readonly role: 'participant' | 'manager';
  /** `online`: awake and reachable. `suspended`: a hidden tab or a sleeping phone. `down`: silent. `left`: said goodbye. */
  readonly presence: 'online' | 'suspended' | 'down' | 'left';
  /** What it offers. */
  readonly capabilities: readonly Required<Capability>[];
  /** Whether it is this node. */
  readonly isSelf: boolean;
}

/** Conditions on one attribute; all must hold. */
export interface Comparison {
  eq?: Attribute; ne?: Attribute; lt?: Attribute; le?: Attribute; gt?: Attribute; ge?: Attribute; in?: Attribute[];
}

/** Conditions on a capability's attributes; `version`, `capacity` and `load` mean the capability's own. A bare value means equality. */
export type Where = Record<string, Attribute | Comparison>;

/** Whom {@link Domain.participants} lists; without conditions everybody known. */
export interface Query { capability?: string; where?: Where; online?: boolean }

/** How a node reaches another one now. */
export interface Link {
  /** The other end's node id. */
  readonly peer: string;
  /** `relayed`: through a relay, which carries ciphertext. `direct`: with no node in between. */
  readonly path: 'direct' | 'relayed' | 'connecting';
  /** The last measured round trip, in milliseconds. */
  readonly rttMs?: number;
  /** Bytes of frames sent over links to this node that are up. */
  readonly sent: number;
  /** Bytes of frames received likewise. */
  readonly received: number;
  /** The remote address in use, as multiaddr text. */
  readonly address: string;
  /** Whether what is sent on `datagram` channels goes as datagrams here; else it takes a stream, where one that is lost holds up the next. */
  readonly datagrams: boolean;
}

/** What was counted in a domain since this node joined it. */
export interface Stats {
  /** Frames sealed, both classes of keys. */
  readonly sealed: number;
  /** Frames opened, both classes. */
  readonly opened: number;
  /** Messages refused, by reason. */
  readonly rejected: Readonly<Record<string, number>>;
  /** Valid members, online or not, this node included. */
  readonly members: number;
  /** Members with an authenticated link to this node. */
  readonly linked: number;
  /** Of these links, those that take datagrams; on the others what is sent on `datagram` channels takes a stream. */
  readonly datagrams: number;
  /** Membership statements held. */
  readonly statements: number;
}

/** Turns values into bytes and back. `decode` may throw: the message is then dropped and reported as an `error` event of the domain. */
export interface Codec<T> { encode(value: T): Uint8Array; decode(bytes: Uint8Array): T }

/** Values as JSON text in UTF-8. The shape is not checked: what arrives was written by another participant. */
export function json<T>(): Codec<T> {
  const encoder = new TextEncoder();
  const decoder = new TextDecoder('utf-8', { fatal: true });
  return { encode: (value) => encoder.encode(JSON.stringify(value)), decode: (bytes) => JSON.parse(decoder.decode(bytes)) as T };
}
