// What the tabs of the room tell each other: poses many times a second, notes for good.
import { json, type Channel, type Codec, type Domain } from 'peerage';

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

/** The shared part of the room. */
export class Shared {
  readonly poses = new Map<string, Pose>();
  readonly notes = new Map<string, Note>();
  readonly poseChannel: Channel<Pose>;
  readonly noteChannel: Channel<Note[]>;
  readonly #domain: Domain;
  readonly #changed: (note: Note) => void;

  constructor(domain: Domain, changed: (note: Note) => void) {
    this.#domain = domain;
    this.#changed = changed;
    this.poseChannel = domain.channel('room/pose', { mode: 'latest', codec: poses });
    this.noteChannel = domain.channel('room/notes', { codec: json<Note[]>() });
    this.poseChannel.on((pose, { from }) => this.poses.set(from, { ...pose, x: clamp(pose.x), z: clamp(pose.z) }));
    this.noteChannel.on((notes) => { if (Array.isArray(notes)) for (const note of notes.slice(0, NOTES)) this.#take(note); });
    domain.addEventListener('participant', ({ detail }) => {
      if (detail.change === 'joined') this.#welcome(detail.id);
      if (detail.change === 'left' || detail.change === 'down') this.poses.delete(detail.id);
    });
  }

  /** Tells everybody where this tab's participant is. */
  tell(pose: Pose): void {
    if (!this.#domain.closed) this.poseChannel.post(pose);
  }

  /** Places a note that everybody sees. */
  async place(text: string, x: number, z: number): Promise<void> {
    const self = this.#domain.self;
    const note: Note = { id: crypto.randomUUID(), by: self.id, name: self.name, text: text.slice(0, 80), x: clamp(x), z: clamp(z), at: Date.now() };
    this.#take(note);
    await this.noteChannel.send([note]);
  }

  /** Everybody gives a newcomer the notes: it needs only one of them, and none in particular. */
  #welcome(id: string): void {
    const newcomer = this.#domain.participants({ online: true }).find((p) => p.id === id);
    if (newcomer?.role !== 'participant' || newcomer.isSelf || this.notes.size === 0) return;
    // If it left again meanwhile there is nobody to give them to.
    this.noteChannel.send([...this.notes.values()], { to: id }).catch(() => undefined);
  }

  #take(note: Note): void {
    const { id, by, name, text, x, z, at } = note;
    if (![id, by, name, text].every((t) => typeof t === 'string' && t.length <= 128) || ![x, z, at].every(Number.isFinite)) return;
    if (this.notes.has(id)) return;
    const kept: Note = { id, by, name, text: text.slice(0, 80), x: clamp(x), z: clamp(z), at };
    this.notes.set(id, kept);
    if (this.notes.size > NOTES) this.notes.delete(this.notes.keys().next().value!);
    this.#changed(kept);
  }
}

const clamp = (n: number) => Math.max(-HALF, Math.min(HALF, n));

/** A colour that is the same for one participant on every screen, as `hsl` parts. */
export function hue(id: string): number {
  let sum = 0;
  for (const c of id) sum = (sum * 31 + c.charCodeAt(0)) >>> 0;
  return (sum * 137.508) % 360;
}
