// Machines on one network: network namespaces of the test's own, joined by a bridge in one more. Nothing leaves them.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const ip = (...args) => promisify(execFile)('ip', args);

/** Why there can be no hosts here, if so. */
export async function missing() {
  const name = `pg${process.pid}-try`;
  try {
    await ip('netns', 'add', name);
    try {
      await ip('-n', name, 'link', 'add', 'bridge', 'type', 'bridge');
      await ip('-n', name, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'other');
    } finally {
      await ip('netns', 'del', name);
    }
    return undefined;
  } catch (error) {
    return `network namespaces need root and iproute2 (sudo npm test -- net): ${(error.stderr || error.message).trim()}`;
  }
}

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

  /** Cuts the cable between a host and the bridge. The host itself does not see it. */
  cut(host) { return ip('-n', this.name('bridge'), 'link', 'set', `to-${host}`, 'nomaster'); }

  /** Mends it. */
  mend(host) { return ip('-n', this.name('bridge'), 'link', 'set', `to-${host}`, 'master', 'bridge'); }
}
