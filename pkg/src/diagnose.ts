import type { Link } from './types.js';

/** How bytes go to a relay. */
export type Transport = 'websocket' | 'webtransport' | 'webrtc-direct' | 'other';

/** A way to a relay. */
export interface Way {
  /** Multiaddr text. */
  readonly address: string;
  readonly transport: Transport;
  /** `skipped`: this page may not or cannot try it, and `why` says so. */
  readonly state: 'works' | 'fails' | 'skipped';
  /** The round trip, in milliseconds. */
  readonly rttMs?: number;
  readonly why?: string;
}

/**
 * What stands in the way: `udp` or `websocket` (a firewall), `mixed-content` (an https page may not open ws:), `local-network` (a permission
 * that the browser asks for), `webtransport` (this browser has none), `storage` (nothing can be kept here), `relay` (nothing leads to one).
 */
export type Obstacle = 'udp' | 'websocket' | 'mixed-content' | 'local-network' | 'webtransport' | 'storage' | 'relay';

/** What {@link Node.diagnose} found. */
export interface Report {
  /** Each way to a relay, tried by itself. */
  readonly ways: readonly Way[];
  /** What is blocked. */
  readonly blocked: readonly Obstacle[];
  /** What is used: the links of the node. */
  readonly links: readonly Link[];
  /** Sentences for people: what is blocked, what is used instead, what to do. */
  readonly advice: readonly string[];
}

/** What the page is and may. @internal */
export interface Surroundings {
  /** Served over https. */
  secure: boolean;
  webTransport: boolean;
  /** The permission to reach private addresses, where the browser has one. */
  localNetwork: PermissionState | undefined;
  /** Why nothing can be stored, if so. */
  unstorable: string | undefined;
}

/** Those of this page. @internal */
export async function surroundings(unstorable: string | undefined): Promise<Surroundings> {
  // Newer than the types know; other browsers refuse the name.
  const asked = navigator.permissions?.query({ name: 'local-network-access' as PermissionName }).catch(() => undefined);
  return {
    secure: location.protocol === 'https:',
    webTransport: typeof WebTransport !== 'undefined',
    localNetwork: (await asked)?.state,
    unstorable,
  };
}

/** @internal */
export function transportOf(address: string): Transport {
  const parts = address.split('/');
  if (parts.includes('webtransport')) return 'webtransport';
  if (parts.includes('webrtc-direct')) return 'webrtc-direct';
  return parts.includes('ws') || parts.includes('wss') ? 'websocket' : 'other';
}

/** Why a page in such surroundings does not try an address. @internal */
export function forbidden(address: string, { secure, webTransport, localNetwork }: Surroundings): [Obstacle | undefined, string] | undefined {
  const transport = transportOf(address);
  const host = address.split('/')[2] ?? '';
  const plain = !/\/(tls|wss)(\/|$)/.test(address);
  if (transport === 'other') return [undefined, 'no browser can dial this'];
  if (transport === 'websocket' && secure && plain && !isLoopback(host)) return ['mixed-content', 'a page over https may not open ws:'];
  if (transport === 'webtransport' && !webTransport) return ['webtransport', 'this browser has no WebTransport'];
  if (localNetwork === 'denied' && (isPrivate(host) || isLoopback(host))) return ['local-network', 'this page may not reach the local network'];
  return undefined;
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}

function isPrivate(host: string): boolean {
  return /^(10\.|192\.168\.|169\.254\.|172\.(1[6-9]|2\d|3[01])\.|f[cd]|fe80:)/i.test(host) || host.endsWith('.local');
}

const ADVICE: Record<Obstacle, string> = {
  relay: 'No way leads to a relay: it does not run, its address is another by now, or a firewall lets nothing through. Ask for a new invitation link.',
  udp: 'UDP is blocked between here and the relay: WebSocket is used instead, and links to others go through the relay unless they are on the same network.',
  websocket: 'WebSocket is blocked between here and the relay: WebTransport or WebRTC is used instead.',
  'mixed-content': 'The relay has addresses that a page over https may not open. Give it a certificate (wss), or rely on WebTransport and WebRTC, which need none.',
  'local-network': 'The browser does not let this page reach devices of the local network. Allow it in the settings of this site.',
  webtransport: 'This browser has no WebTransport: WebRTC or WebSocket is used instead.',
  storage: 'Nothing can be kept here: after a reload this node is somebody else.',
};

/** Tries each address with `probe`, which gives the round trip. @internal */
export async function diagnose(addresses: string[], links: Link[], around: Surroundings, probe: (address: string) => Promise<number>): Promise<Report> {
  const blocked = new Set<Obstacle>();
  const ways = await Promise.all(addresses.map(async (address): Promise<Way> => {
    const transport = transportOf(address);
    const not = forbidden(address, around);
    if (not) {
      if (not[0]) blocked.add(not[0]);
      return { address, transport, state: 'skipped', why: not[1] };
    }
    try {
      return { address, transport, state: 'works', rttMs: await probe(address) };
    } catch (error) {
      return { address, transport, state: 'fails', why: error instanceof Error ? error.message : String(error) };
    }
  }));
  const tried = ways.filter((way) => way.state !== 'skipped');
  const works = (some: Way[]) => some.some((way) => way.state === 'works');
  const over = tried.filter((way) => way.transport === 'websocket');
  const udp = tried.filter((way) => way.transport !== 'websocket');
  if (ways.length > 0 && !works(tried)) blocked.add('relay');
  if (udp.length > 0 && !works(udp) && works(over)) blocked.add('udp');
  if (over.length > 0 && !works(over) && works(udp)) blocked.add('websocket');
  if (around.unstorable) blocked.add('storage');
  const order = Object.keys(ADVICE) as Obstacle[];
  const found = order.filter((obstacle) => blocked.has(obstacle));
  return { ways, blocked: found, links, advice: found.map((obstacle) => ADVICE[obstacle] + (obstacle === 'storage' ? ` (${around.unstorable})` : '')) };
}
