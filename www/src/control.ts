// Own pose from keyboard, mouse, touch and, where there is one, the device's orientation.
import { HALF, hue, type Pose } from './shared.js';

const SPEED = 2.6;
const KEYS: Record<string, Move> = {
  KeyW: 'forward', ArrowUp: 'forward', KeyS: 'back', ArrowDown: 'back', KeyA: 'left', KeyD: 'right', KeyQ: 'turnleft', ArrowLeft: 'turnleft', KeyE: 'turnright', ArrowRight: 'turnright',
};
type Move = 'forward' | 'back' | 'left' | 'right' | 'turnleft' | 'turnright';
type OrientationPermission = { requestPermission?: () => Promise<'granted' | 'denied'> };

/** Where this tab's participant is, moved by whoever sits in front of it. */
export class Control {
  readonly pose: Pose;
  readonly #held = new Set<Move>();
  #last = performance.now();

  constructor(surface: HTMLElement, id: string, tapped: (x: number, y: number) => void) {
    // Everybody starts somewhere else on a ring, looking at its middle.
    const angle = (hue(id) / 180) * Math.PI;
    this.pose = { x: Math.sin(angle) * 4.5, z: Math.cos(angle) * 4.5, yaw: angle, pitch: -0.08 };
    addEventListener('keydown', (e) => { if (!(e.target instanceof HTMLInputElement)) this.#key(e, true); });
    addEventListener('keyup', (e) => this.#key(e, false));
    addEventListener('blur', () => this.#held.clear());
    this.#drag(surface, tapped);
    for (const button of document.querySelectorAll<HTMLElement>('[data-move]')) {
      const move = button.dataset.move as Move;
      button.addEventListener('pointerdown', () => this.#held.add(move));
      for (const end of ['pointerup', 'pointercancel', 'pointerleave']) button.addEventListener(end, () => this.#held.delete(move));
    }
  }

  /** Lets time pass. */
  step(): void {
    const now = performance.now();
    const seconds = Math.min(0.1, (now - this.#last) / 1000);
    this.#last = now;
    const axis = (plus: Move, minus: Move) => Number(this.#held.has(plus)) - Number(this.#held.has(minus));
    this.pose.yaw += axis('turnleft', 'turnright') * 1.8 * seconds;
    const ahead = axis('forward', 'back') * SPEED * seconds;
    const aside = axis('right', 'left') * SPEED * seconds;
    const { yaw } = this.pose;
    this.pose.x = inside(this.pose.x - Math.sin(yaw) * ahead + Math.cos(yaw) * aside);
    this.pose.z = inside(this.pose.z - Math.cos(yaw) * ahead - Math.sin(yaw) * aside);
  }

  /** Whether the device may tell how it is held. */
  static get hasMotion(): boolean {
    return 'DeviceOrientationEvent' in window && matchMedia('(pointer: coarse)').matches;
  }

  /** Looks where the device points from now on. False if its owner refused. */
  async useMotion(): Promise<boolean> {
    const ask = (DeviceOrientationEvent as unknown as OrientationPermission).requestPermission;
    if (ask && (await ask()) !== 'granted') return false;
    let from: number | undefined;
    addEventListener('deviceorientation', ({ alpha, beta }) => {
      if (alpha === null || beta === null) return;
      const yaw = (alpha / 180) * Math.PI;
      from ??= this.pose.yaw - yaw;
      this.pose.yaw = from + yaw;
      this.pose.pitch = tilt(((beta - 80) / 180) * Math.PI);
    });
    return true;
  }

  #key(event: KeyboardEvent, down: boolean): void {
    const move = KEYS[event.code];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    if (down) this.#held.add(move);
    else this.#held.delete(move);
  }

  #drag(surface: HTMLElement, tapped: (x: number, y: number) => void): void {
    let start: { x: number; y: number; moved: number } | undefined;
    surface.addEventListener('pointerdown', (e) => {
      start = { x: e.clientX, y: e.clientY, moved: 0 };
      surface.setPointerCapture(e.pointerId);
    });
    surface.addEventListener('pointermove', (e) => {
      if (!start) return;
      const [dx, dy] = [e.clientX - start.x, e.clientY - start.y];
      start = { x: e.clientX, y: e.clientY, moved: start.moved + Math.abs(dx) + Math.abs(dy) };
      this.pose.yaw += dx * 0.005;
      this.pose.pitch = tilt(this.pose.pitch + dy * 0.004);
    });
    surface.addEventListener('pointerup', (e) => {
      if (start && start.moved < 8) tapped(e.clientX, e.clientY);
      start = undefined;
    });
    surface.addEventListener('pointercancel', () => { start = undefined; });
  }
}

const inside = (n: number) => Math.max(-HALF, Math.min(HALF, n));
const tilt = (n: number) => Math.max(-1.2, Math.min(1.2, n));
