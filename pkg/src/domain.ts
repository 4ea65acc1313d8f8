import { qrSvg, type DomainCore, type NodeCore } from '../gen/peerage.js';
import { Channel, type ChannelOptions } from './channel.js';
import { DomainData } from './data.js';
import { call, wait } from './error.js';
import { asyncDisposeSymbol, Emitter } from './events.js';
import { submit, type JobHandle, type JobResult, type TaskSpec } from './job.js';
import { SharedState } from './state.js';
import { request, serve, type RequestOptions, type ServeOptions, type Task, type TaskHandler } from './task.js';
import type { Content } from './source.js';
import type { Capability, Link, Participant, Query, Stats } from './types.js';

/** What a {@link Domain} tells. */
export interface DomainEvents {
  /** Somebody is new or back (`joined`), changed its record (`updated`), fell silent (`down`) or left. */
  participant: { id: string; change: 'joined' | 'updated' | 'down' | 'left' };
  /** The last live supplier of an essential capability is gone. */
  degraded: { capability: string };
  /** It is back. */
  restored: { capability: string };
  /** A key of the {@link Domain.state} was written or deleted, here or elsewhere. */
  state: { key: string };
  /** Somebody bears an invitation that has to be approved, and waits: {@link Domain.approve} or {@link Domain.deny}. Told to who may invite. */
  approval: { id: string; name: string };
  /** A member did what only a broken or malicious one does. */
  flagged: { id: string; why: string };
  /** A handler threw, or a message did not decode. */
  error: { error: unknown };
  /** This node is no longer in the domain. */
  closed: Record<string, never>;
}

/** What an invitation allows. */
export interface InviteOptions {
  /** How many nodes may join with it. @defaultValue no limit */
  uses?: number;
  /** Let nobody in whom the owner, or somebody with the right to invite, did not approve. @defaultValue false */
  approve?: boolean;
  /** Until when it, and every membership it gives, holds. @defaultValue 30 days from now */
  expires?: Date;
  /** The page that the link opens, without a fragment. @defaultValue this page */
  page?: string;
}

/** What a participant may be given: to invite, to evict and close invitations, to renew the key of the domain's data. */
export type Right = 'invite' | 'evict' | 'store';

/** An invitation as every member knows it: without its secret. */
export interface Invitation {
  /** 43 characters of base64url. */
  readonly id: string;
  /** How many came with it, as far as is known here. */
  readonly used: number;
  /** How many may; absent: any number. */
  readonly uses?: number;
  /** Whether each has to be approved. */
  readonly approve: boolean;
  readonly expires: Date;
  readonly state: 'open' | 'used' | 'expired' | 'revoked';
}

/** An invitation. Whoever has its link can join: hand it over like a key. */
export class Invite {
  /** The link. Its secret is in the fragment, which browsers send to no server. */
  readonly url: string;
  /** What names it among {@link Domain.invitations}, without its secret. */
  readonly id: string;
  readonly #revoke: () => void;

  /** @internal */
  constructor(url: string, id: string, revoke: () => void) {
    this.url = url;
    this.id = id;
    this.#revoke = revoke;
  }

  /** Closes it: nobody joins with it any more. Who did stays. Needs the right to evict, or to be who made it. */
  async revoke(): Promise<void> {
    this.#revoke();
  }

  /** The link as a QR code: SVG text. */
  qr(): string {
    return qr(this.url);
  }
}

/** Any text, such as an invitation link, as a QR code: SVG text. Needs the wasm file: call it after {@link init} or {@link Node.start}. */
export function qr(text: string): string {
  return call(() => qrSvg(text));
}

/** A domain that this node is in. */
export class Domain extends Emitter<DomainEvents> implements AsyncDisposable {
  /** 43 characters of base64url. */
  readonly id: string;
  /** The name its founder gave it. */
  readonly name: string;
  /** What the participants share and keep. */
  readonly state: SharedState;
  /** Objects that the domain manager keeps and cannot read. */
  readonly data: DomainData;
  readonly #core: DomainCore;
  readonly #node: NodeCore;
  readonly #missing = new Set<string>();
  #closed = false;

  /** @internal */
  constructor(core: DomainCore, node: NodeCore) {
    super();
    this.#core = core;
    this.#node = node;
    this.id = core.id;
    this.name = call(() => core.name());
    this.state = new SharedState(core, this);
    this.data = new DomainData(() => node.data(core.id));
  }

  /** This node's own row in the directory. */
  get self(): Participant {
    const self = this.participants().find((p) => p.isSelf);
    if (!self) throw new Error('a node is always in its own copy of the directory');
    return self;
  }

  /** Essential capabilities that nobody online offers now. */
  get missing(): readonly string[] {
    return [...this.#missing];
  }

  /** Whether this node left, or is no longer a member. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Who is in the directory, from this node's own copy: synchronous, and as current as the last message. */
  participants(query?: Query): Participant[] {
    return call(() => this.#core.participants(query)) as Participant[];
  }

  /** Replaces what this node offers; what it {@link Domain.serve | serves} it offers besides. */
  async advertise(capabilities: Capability[]): Promise<void> {
    call(() => this.#core.advertise(capabilities));
  }

  /** Makes an invitation. Needs the right to invite: the founder has it. */
  async invite({ page, expires, ...rest }: InviteOptions = {}): Promise<Invite> {
    return this.#invite(call(() => this.#core.invite({ ...rest, base: page ?? here(), ...(expires ? { expires: expires.getTime() } : {}) })));
  }

  /** The invitation this node came with, to be passed on; `undefined` for the founder. */
  invitation({ page }: Pick<InviteOptions, 'page'> = {}): Invite | undefined {
    const url = call(() => this.#core.invitation(page ?? here()));
    return url === undefined ? undefined : this.#invite(url);
  }

  /** Every invitation this node knows of, those that end first first. */
  invitations(): Invitation[] {
    const all = call(() => this.#core.invitations()) as (Omit<Invitation, 'expires'> & { expires: number })[];
    return all.map((one) => ({ ...one, expires: new Date(one.expires) }));
  }

  /** Closes an invitation, by its id in {@link Domain.invitations}. Who came with it stays. */
  async revokeInvitation(id: string): Promise<void> {
    call(() => this.#core.revokeInvitation(id));
  }

  /**
   * Evicts a member for good and closes the invitations it came with; everybody else stays. From then on nobody who knows of it
   * sends anything that it could read. Needs the right to evict.
   */
  async evict(id: string): Promise<void> {
    call(() => this.#core.evict(id));
  }

  /** Gives a participant rights, for 30 days unless told otherwise and 90 at most. Needs the root key: the founder has it. */
  async delegate(id: string, rights: Right[], { expires = new Date(Date.now() + 30 * 86_400_000) }: { expires?: Date } = {}): Promise<void> {
    call(() => this.#core.delegate(id, rights, expires.getTime() - Date.now()));
  }

  /** Who waits to be let in by an invitation that has to be approved, with the names they give themselves. */
  waiting(): { id: string; name: string }[] {
    return call(() => this.#core.waiting()) as { id: string; name: string }[];
  }

  /** Lets in who waits. Needs the right to invite. */
  async approve(id: string): Promise<void> {
    call(() => this.#core.decide(id, true));
  }

  /** Turns away who waits. Needs the right to invite. */
  async deny(id: string): Promise<void> {
    call(() => this.#core.decide(id, false));
  }

  /**
   * Everything that makes this node the domain's owner, as a file sealed under a passphrase of at least 8 characters, for
   * {@link Node.restore} or `peerage domain restore`. Only where the root key is: the founder has it.
   */
  async backup(passphrase: string): Promise<Uint8Array> {
    const { seal } = await import('./backup.js');
    return seal(call(() => this.#core.bundle()) as Uint8Array<ArrayBuffer>, passphrase);
  }

  /** The root key as 24 words to write down. Whoever has them is the owner. Only where the root key is. */
  async rootWords(): Promise<string> {
    const { words } = await import('./backup.js');
    return words(call(() => this.#core.root()) as Uint8Array<ArrayBuffer>);
  }

  /** Makes this node the owner's again, with the words of {@link Domain.rootWords}. */
  async restoreRoot(words: string): Promise<void> {
    const { fromWords } = await import('./backup.js');
    const seed = await fromWords(words);
    call(() => this.#core.restoreRoot(seed));
    await wait(() => this.#node.flush());
  }

  /**
   * Which `k` of the participants online are responsible for a key: the same wherever the directory is the same, and when one comes or
   * goes only its own share moves (rendezvous hashing). The first is the one of highest rank.
   */
  responsible(key: string, k = 1): string[] {
    return call(() => this.#core.responsible(key, k));
  }

  /**
   * Does something for others: `handler` is called for each task, as many at once as `concurrency` says, until what this returns is
   * called or disposed of. The capability is advertised meanwhile.
   *
   * ```js
   * domain.serve('sum', async (job) => (await job.input()).reduce((a, b) => a + b, 0), { input: json(), output: json() });
   * ```
   */
  serve<I = Uint8Array, O = Uint8Array>(capability: string | Capability, handler: TaskHandler<I, O>, options: ServeOptions<I, O> = {}): Disposable & (() => void) {
    return serve(this.#core, capability, handler, options);
  }

  /**
   * Has something done by another participant that serves it. Input, progress and output go between the two and nobody else. When that
   * one is lost another begins anew.
   *
   * ```js
   * const total = await domain.request('sum', [1, 2, 3], { input: json(), output: json() });
   * ```
   */
  request<I = Uint8Array, O = Uint8Array>(capability: string, input?: I | Content, options: RequestOptions<I, O> = {}): Task<O> {
    return request(this.#core, capability, input as I | Content, options);
  }

  /**
   * Has several things done, some with the results of others: those go from supplier to supplier, and only what no other task needs comes
   * here. A result that is lost with its supplier is made anew.
   *
   * ```js
   * const { rooms } = await domain.submit({ tasks: {
   *   grid: { capability: 'map/occupancy', input: file },
   *   rooms: { capability: 'map/rooms', needs: ['grid'], output: json() },
   * } });
   * ```
   */
  submit<T extends Record<string, TaskSpec>>({ tasks, signal }: { tasks: T; signal?: AbortSignal }): JobHandle<JobResult<T>> {
    return submit(this.#core, tasks, signal);
  }

  /** Opens a channel. The same name needs the same mode everywhere. */
  channel<T = Uint8Array>(name: string, options: ChannelOptions<T> = {}): Channel<T> {
    return new Channel<T>(call(() => this.#core.channel(name, options.mode ?? 'reliable')), name, options, (error) => this.emit('error', { error }));
  }

  /** The links to the members. */
  links(): Link[] {
    return call(() => this.#core.links()) as Link[];
  }

  /** What was counted. */
  stats(): Stats {
    return call(() => this.#core.stats()) as Stats;
  }

  /**
   * Says goodbye to the members and closes the domain here. What is kept of it stays, for {@link Node.reopen}; with `forget` it is
   * deleted, the root key of a founder included.
   */
  async leave({ forget = false }: { forget?: boolean } = {}): Promise<void> {
    if (forget) return wait(() => this.#node.forget(this.id));
    if (this.#closed) return;
    await wait(() => this.#node.flush());
    if (!this.#closed) call(() => this.#core.leave());
  }

  async [asyncDisposeSymbol](): Promise<void> {
    await this.leave();
  }

  #invite(url: string): Invite {
    const id = call(() => this.#core.invitationId(url));
    return new Invite(url, id, () => call(() => this.#core.revokeInvitation(id)));
  }

  /** Keeps the state that events describe, then tells. @internal */
  hear<K extends keyof DomainEvents & string>(type: K, detail: DomainEvents[K]): void {
    if (type === 'degraded') this.#missing.add((detail as DomainEvents['degraded']).capability);
    if (type === 'restored') this.#missing.delete((detail as DomainEvents['restored']).capability);
    if (type === 'closed') this.#closed = true;
    this.emit(type, detail);
  }
}

function here(): string {
  return typeof location === 'undefined' ? 'peerage:' : location.href.split('#')[0]!;
}
