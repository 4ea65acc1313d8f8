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

/** Why a page in such surroundings does not try an address: what is blocked, if it is that, and in words. @internal */
export function forbidden(address: string, { secure, webTransport, localNetwork }: Surroundings): [Obstacle | undefined, string] | undefined {
  const by = (obstacle: Obstacle): [Obstacle, string] => [obstacle, ADVICE[obstacle]];
  const transport = transportOf(address);
  const host = address.split('/')[2] ?? '';
  const plain = !/\/(tls|wss)(\/|$)/.test(address);
  if (transport === 'other') return [undefined, 'no browser can dial this'];
  if (transport === 'websocket' && secure && plain && !isLoopback(host)) return by('mixed-content');
  if (transport === 'webtransport' && !webTransport) return by('webtransport');
  if (localNetwork === 'denied' && (isPrivate(host) || isLoopback(host))) return by('local-network');
  return undefined;
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}

function isPrivate(host: string): boolean {
  return /^(10\.|192\.168\.|169\.254\.|172\.(1[6-9]|2\d|3[01])\.|f[cd]|fe80:)/i.test(host) || host.endsWith('.local');
}

/** In the order in which they matter. */
const ADVICE: Record<Obstacle, string> = {
  relay: 'No way leads to a relay: it is down, it moved, or a firewall is in between. Ask for a new link.',
  udp: 'UDP is blocked: WebSocket is used, and links to others may go through the relay.',
  websocket: 'WebSocket is blocked: WebTransport or WebRTC is used.',
  'mixed-content': 'A page over https may not open ws: to a relay. Give it a certificate (wss), or use WebTransport or WebRTC.',
  'local-network': 'This page may not reach the local network: allow it in the settings of the site.',
  webtransport: 'This browser has no WebTransport: WebRTC or WebSocket is used.',
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
  const found = (Object.keys(ADVICE) as Obstacle[]).filter((obstacle) => blocked.has(obstacle));
  return { ways, blocked: found, links, advice: found.map((obstacle) => ADVICE[obstacle] + (obstacle === 'storage' ? ` (${around.unstorable})` : '')) };
}
