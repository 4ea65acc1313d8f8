import { NodeCore, type DomainCore } from '../gen/peerage.js';
import type { Report } from './diagnose.js';
import { Domain } from './domain.js';
import { call, PeerageError, wait } from './error.js';
import { asyncDisposeSymbol, Emitter } from './events.js';
import { init } from './init.js';
import { takeSlot, type Slot } from './slot.js';
import { cancelled } from './source.js';
import { inBrowser, inMemory, unstorable } from './store.js';
import type { Capability, Link } from './types.js';

/** What a {@link Node} tells. */
export interface NodeEvents {
  /** The addresses at which this node can be dialled changed. */
  addresses: Record<string, never>;
  /** A relay became usable or stopped being so. */
  relay: { address: string; up: boolean };
  /** The way to a node changed; without `path` there is no link left. */
  link: { id: string; path?: 'direct' | 'relayed' };
  /** A direct path could not be built; the relayed one stays in use. */
  directfailed: { id: string; code: string };
  /** A remote refused something of ours, or (`byUs`) we something of it. */
  refused: { id: string; code: string; byUs: boolean };
  /** What changed could not be stored; it is tried again. Told once, until a try succeeds. */
  unsaved: { reason: string };
  /** The domain that is being joined was asked, and somebody in charge has to decide: the join goes on waiting, for ten minutes. */
  waiting: { id: string };
  /** The node was closed. */
  closed: Record<string, never>;
}

/** How a node starts. */
export interface StartOptions {
  /** Relays to use besides those that invitations name: multiaddr text ending in `/p2p/<id>`. */
  relays?: string[];
  /**
   * `persistent`: the identity and the domains are kept in this browser, so that a reloaded page comes back as the same participant,
   * without an invitation. Each of several tabs has one of its own, up to 16. `ephemeral`: everything is gone with the page.
   * Without either it is `persistent` where the browser can keep things, which takes https or localhost; {@link Node.identity} tells.
   */
  identity?: 'persistent' | 'ephemeral';
  /** Where a node keeps things: `indexeddb` for a persistent identity, `memory` for an ephemeral one. Either option implies the other. */
  storage?: 'indexeddb' | 'memory';
  /**
   * When another tab of this browser runs under the first stored identity: `another` takes the next one that is free, `wait` waits until
   * that tab is closed or its node is, and takes over from it. @defaultValue 'another'
   */
  taken?: 'another' | 'wait';
  /** For connections from browser to browser: ICE servers, for instance. @defaultValue none: what the relay and the network give */
  rtc?: Omit<RTCConfiguration, 'certificates'>;
  /** Gives up starting. */
  signal?: AbortSignal;
}

/** A domain kept in this browser. */
export interface StoredDomain {
  readonly id: string;
  /** Absent if what is stored of it cannot be read: {@link Node.reopen} says why. */
  readonly name?: string;
}

/** Who this node says it is, in a domain. */
export interface JoinOptions {
  /** What others see. */
  profile?: { /** A name for people, at most 64 bytes. */ name?: string };
  /** What this node offers from the start. */
  capabilities?: Capability[];
  /** Gives up joining. */
  signal?: AbortSignal;
}

/** What a new domain is. */
export interface DomainOptions extends Omit<JoinOptions, 'signal'> {
  /** For people; at most 64 bytes. */
  name: string;
  /** Capabilities whose loss every participant is told of. */
  essential?: string[];
}

/** How long a way to a relay is tried, ms. */
const PROBED = 15_000;

type CoreEvent = { type: string; domain?: string } & Record<string, unknown>;

/** This process in the network: one identity, the links to others, the domains it is in. */
export class Node extends Emitter<NodeEvents> implements AsyncDisposable {
  /** The node's id, `12D3KooW…`. */
  readonly id: string;
  /** Whether the identity is kept in this browser. Also `ephemeral` in a tab for which there was none left: 16 others had one. */
  readonly identity: 'persistent' | 'ephemeral';
  readonly #core: NodeCore;
  readonly #slot: Slot | undefined;
  readonly #domains = new Map<string, Domain>();
  readonly #ended: Promise<void>;
  readonly #listening = new AbortController();
  #closed = false;

  private constructor(core: NodeCore, slot: Slot | undefined) {
    super();
    this.#core = core;
    this.#slot = slot;
    this.identity = slot ? 'persistent' : 'ephemeral';
    this.id = core.id;
    this.#ended = this.#pump();
    this.#listen();
  }

  /** What the page goes through, the node hears of. */
  #listen(): void {
    if (typeof document === 'undefined') return;
    const { signal } = this.#listening;
    // A tab that closes says goodbye, instead of falling silent.
    addEventListener('pagehide', (event) => { if (!event.persisted) this.#core.close(); }, { signal });
    addEventListener('online', () => this.#core.wake(), { signal });
    // One that was put aside whole and is shown again, by a step back in its history, or was frozen while hidden.
    addEventListener('pageshow', (event) => { if (event.persisted) this.#core.wake(); }, { signal });
    document.addEventListener('resume', () => this.#core.wake(), { signal });
    // A hidden tab's timers run once a minute: the others are told not to expect answers at once.
    const visible = () => this.#core.suspend(document.visibilityState === 'hidden');
    document.addEventListener('visibilitychange', visible, { signal });
    visible();
  }

  /** Starts a node. Loads the wasm file if {@link init} has not. */
  static async start({ relays = [], identity, storage, taken = 'another', rtc = {}, signal }: StartOptions = {}): Promise<Node> {
    const persistent = wantsStore(identity, storage);
    if (typeof RTCPeerConnection === 'undefined') {
      throw new PeerageError('unsupported', 'this environment has no WebRTC', { hint: 'Start the node in a browser tab, not on a server or in a worker.' });
    }
    tryOut(rtc);
    await init();
    throwIfAborted(signal);
    const slot = persistent ? await takeSlot(taken === 'wait', signal) : undefined;
    try {
      const { records, key } = slot ? await inBrowser(slot.number) : inMemory();
      const starting = wait(() => NodeCore.start(relays, records, key, JSON.stringify(rtc)));
      key.fill(0);
      return new Node(await starting, slot);
    } catch (error) {
      slot?.release();
      throw error;
    }
  }

  /** `offline`: no link to anybody. `degraded`: linked, but a domain lacks an essential capability. `online`: neither. */
  get state(): 'online' | 'degraded' | 'offline' {
    if (this.#closed || !this.links().some((link) => link.path !== 'connecting')) return 'offline';
    return [...this.#domains.values()].some((domain) => domain.missing.length > 0) ? 'degraded' : 'online';
  }

  /** Founds a domain: this node holds its root key, in this browser only, and is its first participant. */
  async createDomain({ name, essential = [], profile, capabilities }: DomainOptions): Promise<Domain> {
    const domain = this.#adopt(call(() => this.#core.createDomain(name, essential, { ...profile, capabilities: capabilities ?? [] })));
    await wait(() => this.#core.flush());
    return domain;
  }

  /**
   * Joins the domain that an invitation link names: finds a member through the link's relays, proves the invitation, is let in.
   * A domain that is kept in this browser is opened from there.
   */
  async join(invite: string, { profile, capabilities, signal }: JoinOptions = {}): Promise<Domain> {
    throwIfAborted(signal);
    const cancel = new Promise<void>((resolve) => signal?.addEventListener('abort', () => resolve(), { once: true }));
    return this.#adopt(await wait(() => this.#core.join(invite, { ...profile, capabilities: capabilities ?? [] }, cancel)));
  }

  /** Opens a domain again that is kept in this browser: no invitation is needed, and nobody else has to be online. */
  async reopen(id: string, { profile, capabilities, signal }: JoinOptions = {}): Promise<Domain> {
    throwIfAborted(signal);
    return this.#adopt(await wait(() => this.#core.reopen(id, { ...profile, capabilities: capabilities ?? [] })));
  }

  /**
   * Opens a domain from a backup of its owner's ({@link Domain.backup}, `peerage domain backup`) and keeps it: this node is the owner's
   * from then on.
   */
  async restore(file: Uint8Array, passphrase: string, { profile, capabilities }: Omit<JoinOptions, 'signal'> = {}): Promise<Domain> {
    const { open } = await import('./backup.js');
    const bundle = await open(file, passphrase);
    const restoring = wait(() => this.#core.restore(bundle, { ...profile, capabilities: capabilities ?? [] }));
    return this.#adopt(await restoring.finally(() => bundle.fill(0)));
  }

  /** The domains kept in this browser. */
  async domains(): Promise<StoredDomain[]> {
    return (await wait(() => this.#core.domains())) as StoredDomain[];
  }

  /** Leaves a domain if this node is in it, and deletes what is kept of it, the root key of a founder included. */
  async forget(id: string): Promise<void> {
    await wait(() => this.#core.forget(id));
  }

  /** Connects to any libp2p node and measures one round trip, for diagnosis. The address ends in `/p2p/<id>`. */
  async dial(address: string): Promise<Link> {
    return (await wait(() => this.#core.dial(address))) as Link;
  }

  /**
   * Tries every way to the relays that this node knows, and to those given, each with a node of its own, and says what is blocked, what is
   * used instead, and what to do about it. Takes up to 15 seconds.
   */
  async diagnose({ addresses = [] }: { addresses?: string[] } = {}): Promise<Report> {
    const { diagnose, surroundings } = await import('./diagnose.js');
    const all = [...new Set([...this.#core.relays(), ...addresses])];
    return diagnose(all, this.links(), await surroundings(unstorable()), probe);
  }

  /** All links of the node, relays included. */
  links(): Link[] {
    return call(() => this.#core.links()) as Link[];
  }

  /** Where others can dial this node now, as multiaddr text. */
  addresses(): string[] {
    return this.#core.addresses();
  }

  /** Stores what changed, leaves every domain, writes what is queued, stops. */
  async close(): Promise<void> {
    // What cannot be stored now was told of as `unsaved`, and there is no later.
    await this.#core.flush().catch(() => undefined);
    this.#core.close();
    await this.#ended;
  }

  async [asyncDisposeSymbol](): Promise<void> {
    await this.close();
  }

  #adopt(core: DomainCore): Domain {
    const known = this.#domains.get(core.id);
    if (known && !known.closed) return known;
    const domain = new Domain(core, this.#core);
    this.#domains.set(domain.id, domain);
    return domain;
  }

  async #pump(): Promise<void> {
    for (;;) {
      const event = (await this.#core.nextEvent()) as CoreEvent | undefined;
      if (event === undefined) break;
      const { type, domain: id, ...detail } = event;
      if (id === undefined) this.emit(type as keyof NodeEvents, detail as never);
      else this.#domains.get(id)?.hear(type as never, detail as never);
      if (type === 'closed' && id !== undefined) this.#domains.delete(id);
    }
    this.#closed = true;
    this.#listening.abort();
    for (const domain of this.#domains.values()) domain.hear('closed', {});
    this.#domains.clear();
    this.#slot?.release();
    this.emit('closed', {});
  }
}

/** The round trip to an address, by a node that has no other connection. */
async function probe(address: string): Promise<number> {
  const { records, key } = inMemory();
  const core = await wait(() => NodeCore.start([], records, key, '{}'));
  try {
    const link = await Promise.race([wait(() => core.dial(address)), cancelled(AbortSignal.timeout(PROBED))]) as Link | undefined;
    if (!link) throw new PeerageError('timeout', 'nothing came back', { retryable: true });
    return link.rttMs ?? 0;
  } finally {
    core.close();
  }
}

/** A configuration that the browser refuses is found now, not at the first connection. */
function tryOut(rtc: RTCConfiguration): void {
  try {
    new RTCPeerConnection(rtc).close();
  } catch (cause) {
    throw new PeerageError('bad-argument', 'the browser refuses this WebRTC configuration', { cause, hint: 'rtc takes what RTCPeerConnection takes, an iceServers list for instance.' });
  }
}

/** Whether a node so started keeps things in this browser. */
function wantsStore(identity: StartOptions['identity'], storage: StartOptions['storage']): boolean {
  const fitting = { persistent: 'indexeddb', ephemeral: 'memory' } as const;
  const kinds: (keyof typeof fitting)[] = ['persistent', 'ephemeral'];
  const fit = kinds.filter((kind) => (identity ?? kind) === kind && (storage ?? fitting[kind]) === fitting[kind]);
  if (fit.length === 0) throw new PeerageError('bad-argument', 'an identity is persistent and stored in indexeddb, or ephemeral and kept in memory');
  if (fit[0] === 'ephemeral') return false;
  const why = unstorable();
  if (why && fit.length === 1) throw new PeerageError('unsupported', `nothing can be stored here: ${why}`, { hint: "Start the node with identity: 'ephemeral'." });
  return !why;
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new PeerageError('aborted', 'the call was cancelled', { cause: signal.reason });
}
