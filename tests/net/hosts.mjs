// Machines on one network: network namespaces of the test's own, joined by a bridge in one more. Nothing leaves them.
import { execFile } from 'node:child_process';
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { promisify } from 'node:util';

const ip = (...args) => promisify(execFile)('ip', args);

/** What a router in front of a host does with UDP, in nftables' words (RFC 4787 has the behaviours). TCP goes out and is answered. */
const ROUTERS = {
  /** Endpoint-independent mapping and filtering ("full cone"): who learns of the address outside reaches the host. */
  'full cone': { nat: ['masquerade'], forward: ['meta l4proto udp accept'], inward: true },
  /** Endpoint-independent mapping, address- and port-dependent filtering ("port-restricted cone"). */
  restricted: { nat: ['masquerade'], forward: [] },
  /** Another address outside for each endpoint ("symmetric"). */
  symmetric: { nat: ['masquerade fully-random'], forward: [] },
  /** No UDP at all. */
  'no udp': { nat: ['masquerade'], forward: ['meta l4proto udp drop'] },
  /** Nothing but TCP to port 443, as in strict offices. */
  'only 443': { nat: ['masquerade'], forward: ['iifname "inside" tcp dport != 443 drop', 'meta l4proto udp drop'] },
};

/** Tries something in a namespace that is taken away again; why it failed, if it did. */
async function tried(attempt, wants) {
  const name = `pg${process.pid}-try`;
  try {
    await ip('netns', 'add', name);
    try {
      await attempt(name);
    } finally {
      await ip('netns', 'del', name);
    }
    return undefined;
  } catch (error) {
    return `${wants}: ${(error.stderr || error.message).trim()}`;
  }
}

/** Why there can be no hosts here, if so. */
export const missing = () => tried(async (name) => {
  await ip('-n', name, 'link', 'add', 'bridge', 'type', 'bridge');
  await ip('-n', name, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'other');
}, 'network namespaces need root and iproute2 (sudo npm test -- net)');

/** Why there can be no routers here, if so. */
export const routerless = async () => (await missing()) ?? tried(async (name) => {
  await ip('netns', 'exec', name, 'sysctl', '-qw', 'net.ipv4.ip_forward=1');
  await ip('netns', 'exec', name, 'nft', 'add table ip router; add chain ip router outward { type nat hook postrouting priority srcnat; }; add rule ip router outward masquerade fully-random');
}, 'routers need nftables and procps (apt-get install nftables procps)');

/** The network. Addresses are those that RFC 5737 keeps for documentation: 192.0.2.0/24. */
export class Hosts {
  #made = [];

  /** An empty network, taken down after the test. */
  static async make(t) {
    const hosts = new Hosts();
    t.after(() => Promise.all(hosts.#made.map((name) => ip('netns', 'del', name))));
    await hosts.#namespace('bridge');
    await ip('-n', hosts.name('bridge'), 'link', 'add', 'bridge', 'type', 'bridge');
    await ip('-n', hosts.name('bridge'), 'link', 'set', 'bridge', 'up');
    return hosts;
  }

  /** The namespace of a host. */
  name(host) { return `pg${process.pid}-${host}`; }

  async #namespace(host) {
    await ip('netns', 'add', this.name(host));
    this.#made.push(this.name(host));
    await ip('-n', this.name(host), 'link', 'set', 'lo', 'up');
  }

  /** Adds a host at 192.0.2.`number`, as a place for processes. */
  async add(host, number) {
    await this.#namespace(host);
    const [bridge, inside] = [this.name('bridge'), this.name(host)];
    await ip('-n', bridge, 'link', 'add', `to-${host}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', inside);
    await ip('-n', bridge, 'link', 'set', `to-${host}`, 'master', 'bridge', 'up');
    return { inside, address: await this.readdress(host, number) };
  }

  /** Gives a host another address in place of the one it has; the address. */
  async readdress(host, number) {
    const [inside, address] = [this.name(host), `192.0.2.${number}`];
    await ip('-n', inside, 'addr', 'flush', 'dev', 'eth0');
    await ip('-n', inside, 'addr', 'add', `${address}/24`, 'dev', 'eth0');
    await ip('-n', inside, 'link', 'set', 'eth0', 'up');
    // To a router that is not there: a browser looks at its way to the rest of the world for the address to offer.
    await ip('-n', inside, 'route', 'replace', 'default', 'via', '192.0.2.254');
    return address;
  }

  /** Adds a host at 10.0.`number`.2 behind a router of this kind, which is 192.0.2.`number` to the others; the host as a place. */
  async behind(host, number, kind) {
    const router = `${host}-router`;
    await this.add(router, number);
    await this.#namespace(host);
    const [outer, inside] = [this.name(router), this.name(host)];
    await ip('-n', outer, 'link', 'add', 'inside', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', inside);
    await ip('-n', outer, 'addr', 'add', `10.0.${number}.1/24`, 'dev', 'inside');
    await ip('-n', outer, 'link', 'set', 'inside', 'up');
    await ip('-n', inside, 'addr', 'add', `10.0.${number}.2/24`, 'dev', 'eth0');
    await ip('-n', inside, 'link', 'set', 'eth0', 'up');
    await ip('-n', inside, 'route', 'add', 'default', 'via', `10.0.${number}.1`);
    await ip('netns', 'exec', outer, 'sysctl', '-qw', 'net.ipv4.ip_forward=1');
    await this.route(host, number, kind);
    return { inside, address: `10.0.${number}.2` };
  }

  /** Gives a host's router another kind. What is under way through it goes on as it began. */
  async route(host, number, kind) {
    const { nat, forward, inward } = ROUTERS[kind];
    // What comes unasked is dropped, or the router would remember it, and give another port to whoever answers from the inside.
    const ruleset = `
      flush ruleset
      table ip router {
        chain inward { type nat hook prerouting priority dstnat; ${inward ? `iifname "eth0" meta l4proto udp dnat to 10.0.${number}.2` : ''}
        }
        chain outward { type nat hook postrouting priority srcnat;
          ${nat.map((rule) => `oifname "eth0" ${rule}`).join('\n')}
        }
        chain input { type filter hook input priority filter; policy drop;
          ct state established,related accept
          iifname "inside" accept
        }
        chain forward { type filter hook forward priority filter; policy drop;
          ${forward.join('\n')}
          ct state established,related accept
          iifname "inside" accept
        }
      }`;
    const file = `${tmpdir()}/${this.name(host)}.nft`;
    await writeFile(file, ruleset);
    try {
      await ip('netns', 'exec', this.name(`${host}-router`), 'nft', '-f', file);
    } finally {
      await rm(file);
    }
  }

  /** Of what comes to a host so many packets in a hundred are lost, at random. */
  lose(host, percent) {
    const rule = `numgen random mod 100 < ${percent} drop`;
    return ip('netns', 'exec', this.name(host), 'nft', `add table inet loss; add chain inet loss inward { type filter hook input priority 0; }; add rule inet loss inward iifname eth0 ${rule}`);
  }

  /** Cuts the cable between a host and the bridge. The host itself does not see it. */
  cut(host) { return ip('-n', this.name('bridge'), 'link', 'set', `to-${host}`, 'nomaster'); }

  /** Mends it. */
  mend(host) { return ip('-n', this.name('bridge'), 'link', 'set', `to-${host}`, 'master', 'bridge'); }
}
