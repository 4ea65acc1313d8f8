// A native participant under test.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { Child, HERE } from './harness.mjs';

/** What parcels are sent on. */
export const CHANNEL = 'parcels';

/** A `peerage join` that tells whom it sees and exchanges parcels. */
export class Native {
  /** Joins, or comes back where there is no link. `place`: see {@link HERE}; `more`: options. */
  static async open(t, data, link, { place = HERE, more = [] } = {}) {
    const one = new Native();
    one.child = new Child(t, ['--data', data, 'join', ...more, ...(link ? [link] : [])], place);
    one.id = (await one.child.line((line) => line.event === 'joined', 'word that it joined')).node;
    one.child.say({ cmd: 'open', channel: CHANNEL });
    return one;
  }

  #asked = 0;

  /** The answer to a command. */
  async ask(command, ms) {
    const id = (this.#asked += 1);
    this.child.say({ ...command, id });
    const answer = await this.child.line((line) => line.id === id, 'an answer', ms);
    assert.equal(answer.event, 'answer', JSON.stringify(answer));
    return answer;
  }

  /** Who is there besides the manager, by its own directory. */
  async here() {
    const { participants } = await this.ask({ cmd: 'participants' });
    return participants.filter((p) => p.role === 'participant' && p.presence === 'online').map((p) => p.node);
  }

  /** Sends random bytes to all of these; their hash. */
  async send(to, size) {
    const bytes = randomBytes(size);
    await this.ask({ cmd: 'send', channel: CHANNEL, to, data: bytes.toString('base64') }, 300_000);
    return createHash('sha256').update(bytes).digest('hex');
  }

  /** What it counted, for a test that fails. */
  async story() { return JSON.stringify(await this.ask({ cmd: 'stats' })); }

  /** Waits for a parcel. */
  got(from, hash) {
    const holds = (line) => line.event === 'message' && line.from === from && line.data
      && createHash('sha256').update(Buffer.from(line.data, 'base64')).digest('hex') === hash;
    return this.child.line(holds, `something from ${from}`, 300_000);
  }
}
