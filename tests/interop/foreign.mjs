// The page of js-libp2p as its documentation has it: nothing of Peerage in it.
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2';
import { identify } from '@libp2p/identify';
import { ping } from '@libp2p/ping';
import { webRTC } from '@libp2p/webrtc';
import { webSockets } from '@libp2p/websockets';
import { webTransport } from '@libp2p/webtransport';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';

const node = await createLibp2p({
  addresses: { listen: ['/p2p-circuit', '/webrtc'] },
  transports: [webSockets(), webTransport(), webRTC(), circuitRelayTransport()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  // Browsers' default refuses private addresses and plain WebSocket.
  connectionGater: { denyDialMultiaddr: () => false },
  // Its monitor pings every 10 s, and one outbound ping stream is all a connection may have: ours would find it taken.
  connectionMonitor: { enabled: false },
  services: { identify: identify(), ping: ping() },
});

/** The connection to a node that no relay carries. */
const direct = (id) => node.getConnections().find((c) => c.remotePeer.toString() === id && c.limits === undefined && c.status === 'open');

window.foreign = {
  id: node.peerId.toString(),
  dial: async (address) => { await node.dial(multiaddr(address)); },
  /** The address at which others reach it, once it has a reservation. */
  address: async () => {
    for (;;) {
      const found = node.getMultiaddrs().map(String).find((a) => a.includes('/p2p-circuit/webrtc/'));
      if (found) return found;
      await new Promise((resolve) => node.addEventListener('self:peer:update', resolve, { once: true }));
    }
  },
  /** One round trip on the direct connection, in ms, and the connection's address. */
  ping: async (id) => {
    const connection = direct(id);
    if (!connection) throw new Error(`no direct connection: ${node.getConnections().map((c) => c.remoteAddr)}`);
    return { ms: await node.services.ping.ping(connection.remotePeer), address: connection.remoteAddr.toString() };
  },
};
