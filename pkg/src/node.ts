import { NodeCore, type DomainCore } from '../gen/peerage.js';
import { Domain } from './domain.js';
import { call, PeerageError, wait } from './error.js';
import { asyncDisposeSymbol, Emitter } from './events.js';
import { init } from './init.js';
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
  /** The node was closed. */
  closed: Record<string, never>;
}

/** How a node starts. */
export interface StartOptions {
  /** Relays to use besides those that invitations name: multiaddr text ending in `/p2p/<id>`. */
  relays?: string[];
  /** Gives up starting. */
  signal?: AbortSignal;
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

type CoreEvent = { type: string; domain?: string } & Record<string, unknown>;

/** This process in the network: one identity, the links to others, the domains it is in. */
export class Node extends Emitter<NodeEvents> implements AsyncDisposable {
  /** The node's id, `12D3KooW…`. */
  readonly id: string;
  readonly #core: NodeCore;
  readonly #domains = new Map<string, Domain>();
  readonly #ended: Promise<void>;
  readonly #onPageHide = (event: PageTransitionEvent) => { if (!event.persisted) this.#core.close(); };
  #closed = false;

  private constructor(core: NodeCore) {
    super();
    this.#core = core;
    this.id = core.id;
    this.#ended = this.#pump();
    // A tab that closes says goodbye, instead of falling silent.
    if (typeof addEventListener === 'function') addEventListener('pagehide', this.#onPageHide);
  }

  /** Starts a node with a fresh identity. Loads the wasm file if {@link init} has not. */
  static async start({ relays = [], signal }: StartOptions = {}): Promise<Node> {
    if (typeof RTCPeerConnection === 'undefined') {
      throw new PeerageError('unsupported', 'this environment has no WebRTC', { hint: 'Start the node in a browser tab, not on a server or in a worker.' });
    }
    await init();
    throwIfAborted(signal);
    return new Node(call(() => NodeCore.start(relays)));
  }

  /** `offline`: no link to anybody. `degraded`: linked, but a domain lacks an essential capability. `online`: neither. */
  get state(): 'online' | 'degraded' | 'offline' {
    if (this.#closed || !this.links().some((link) => link.path !== 'connecting')) return 'offline';
    return [...this.#domains.values()].some((domain) => domain.missing.length > 0) ? 'degraded' : 'online';
  }

  /** Founds a domain: this node holds its root key, in this tab only, and is its first participant. */
  async createDomain({ name, essential = [], profile, capabilities }: DomainOptions): Promise<Domain> {
    return this.#adopt(call(() => this.#core.createDomain(name, essential, { ...profile, capabilities: capabilities ?? [] })));
  }

  /** Joins the domain that an invitation link names: finds a member through the link's relays, proves the invitation, is let in. */
  async join(invite: string, { profile, capabilities, signal }: JoinOptions = {}): Promise<Domain> {
    throwIfAborted(signal);
    const cancel = new Promise<void>((resolve) => signal?.addEventListener('abort', () => resolve(), { once: true }));
    return this.#adopt(await wait(() => this.#core.join(invite, { ...profile, capabilities: capabilities ?? [] }, cancel)));
  }

  /** Connects to any libp2p node and measures one round trip, for diagnosis. The address ends in `/p2p/<id>`. */
  async dial(address: string): Promise<Link> {
    return (await wait(() => this.#core.dial(address))) as Link;
  }

  /** All links of the node, relays included. */
  links(): Link[] {
    return call(() => this.#core.links()) as Link[];
  }

  /** Where others can dial this node now, as multiaddr text. */
  addresses(): string[] {
    return this.#core.addresses();
  }

  /** Leaves every domain, writes what is queued, stops. */
  async close(): Promise<void> {
    this.#core.close();
    await this.#ended;
  }

  async [asyncDisposeSymbol](): Promise<void> {
    await this.close();
  }

  #adopt(core: DomainCore): Domain {
    const known = this.#domains.get(core.id);
    if (known && !known.closed) return known;
    const domain = new Domain(core);
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
    if (typeof removeEventListener === 'function') removeEventListener('pagehide', this.#onPageHide);
    for (const domain of this.#domains.values()) domain.hear('closed', {});
    this.#domains.clear();
    this.emit('closed', {});
  }
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new PeerageError('aborted', 'the call was cancelled', { cause: signal.reason });
}
