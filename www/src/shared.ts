// What the tabs of the room tell each other: poses many times a second, notes for good.
import type { Channel, Codec, Domain, StateEntry } from 'peerage';

/** Where somebody stands and looks: metres, radians; `yaw` 0 looks along −z. */
export interface Pose { x: number; z: number; yaw: number; pitch: number }

/** A text at a place in the room. */
export interface Note { id: string; by: string; name: string; text: string; x: number; z: number; at: number }

const poses: Codec<Pose> = {
  encode: ({ x, z, yaw, pitch }) => new Uint8Array(Float32Array.of(x, z, yaw, pitch).buffer),
  decode: (bytes) => {
    if (bytes.byteLength !== 16) throw new RangeError('a pose has 16 bytes');
    const [x, z, yaw, pitch] = new Float32Array(bytes.slice().buffer) as unknown as [number, number, number, number];
    if (![x, z, yaw, pitch].every(Number.isFinite)) throw new RangeError('a pose is made of finite numbers');
    return { x, z, yaw, pitch };
  },
};

/** Notes kept; the oldest go first. */
export const NOTES = 200;
/** The room's half width, in metres. */
export const HALF = 9;

const NOTE = 'room/note/';

/** The shared part of the room: poses on a channel, where only the newest counts, and notes in the shared state, which stays. */
export class Shared {
  readonly poses = new Map<string, Pose>();
  readonly notes = new Map<string, Note>();
  readonly poseChannel: Channel<Pose>;
  readonly #domain: Domain;

  constructor(domain: Domain, changed: (note: Note) => void, removed: (id: string) => void) {
    this.#domain = domain;
    this.poseChannel = domain.channel('room/pose', { mode: 'latest', codec: poses });
    this.poseChannel.on((pose, { from }) => this.poses.set(from, { ...pose, x: clamp(pose.x), z: clamp(pose.z) }));
    domain.addEventListener('participant', ({ detail }) => {
      if (detail.change === 'left' || detail.change === 'down') this.poses.delete(detail.id);
    });
    const forget = (id: string) => { if (this.notes.delete(id)) removed(id); };
    domain.state.watch((key, entry) => {
      const id = key.slice(NOTE.length);
      const note = entry && read(id, entry);
      if (!note) return forget(id);
      this.notes.set(id, note);
      changed(note);
      // Others may keep to another bound.
      for (const { id } of this.#beyond(NOTES)) forget(id);
    }, { prefix: NOTE });
  }

  /** The oldest notes, so many that the rest are `most`. */
  #beyond(most: number): Note[] {
    return [...this.notes.values()].sort((a, b) => a.at - b.at).slice(0, Math.max(0, this.notes.size - most));
  }

  /** Tells everybody where this tab's participant is. */
  tell(pose: Pose): void {
    if (!this.#domain.closed) this.poseChannel.post(pose);
  }

  /** Places a note that everybody sees, also who comes later. */
  place(text: string, x: number, z: number): void {
    for (const { id } of this.#beyond(NOTES - 1)) this.#domain.state.delete(NOTE + id);
    this.#domain.state.set(NOTE + crypto.randomUUID(), { name: this.#domain.self.name, text: text.slice(0, 80), x: clamp(x), z: clamp(z) });
  }
}

/** A note as somebody wrote it, if it is one. Who wrote it is proven; the name is what they call themselves. */
function read(id: string, { value, by, at }: StateEntry): Note | undefined {
  const { name, text, x, z } = (value ?? {}) as Partial<Note>;
  if (typeof name !== 'string' || typeof text !== 'string' || !Number.isFinite(x) || !Number.isFinite(z)) return undefined;
  return { id, by, name: name.slice(0, 64), text: text.slice(0, 80), x: clamp(x!), z: clamp(z!), at: at.getTime() };
}

const clamp = (n: number) => Math.max(-HALF, Math.min(HALF, n));

/** A colour that is the same for one participant on every screen, as `hsl` parts. */
export function hue(id: string): number {
  let sum = 0;
  for (const c of id) sum = (sum * 31 + c.charCodeAt(0)) >>> 0;
  return (sum * 137.508) % 360;
}
