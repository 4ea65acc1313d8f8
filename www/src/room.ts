// The room, drawn with three.js.
import {
  BoxGeometry, CanvasTexture, CapsuleGeometry, CircleGeometry, Color, DirectionalLight, Fog, GridHelper, Group, HemisphereLight, InstancedMesh, Matrix4, Mesh, MeshBasicMaterial,
  MeshStandardMaterial, type Object3D, PerspectiveCamera, Plane, Points, Raycaster, RingGeometry, Scene, SphereGeometry, Sprite, SpriteMaterial, Vector2,
  Vector3, WebGLRenderer, SRGBColorSpace,
} from 'three';
import type { Grid } from 'peerage/occupancy';
import type { Model } from './model.js';
import { hue, type Note, type Pose } from './shared.js';

const EYES = 1.6;
/** The longest side of a scan as it is shown, metres, and how high above the floor it stands. */
const SCAN = 2.4;
const ABOVE = 0.4;
/** Cells of a grid that are drawn. */
const CELLS = 300_000;

interface Avatar { group: Group; head: Group; name: string }

/** What is seen through this tab's participant's eyes. */
export class Room {
  readonly #renderer: WebGLRenderer;
  readonly #scene = new Scene();
  readonly #camera = new PerspectiveCamera(62, 1, 0.05, 80);
  readonly #avatars = new Map<string, Avatar>();
  readonly #notes = new Map<string, Group>();
  /** The scan and its grid, in the scan's own coordinates. */
  readonly #scan = new Group();
  #cells: Object3D | undefined;

  /** Throws where there is no WebGL. */
  constructor(canvas: HTMLCanvasElement) {
    this.#renderer = new WebGLRenderer({ canvas, antialias: true, alpha: true, powerPreference: 'low-power' });
    this.#renderer.setPixelRatio(Math.min(devicePixelRatio, 1.75));
    this.#camera.rotation.order = 'YXZ';
    this.#scene.fog = new Fog(0x0d131d, 9, 26);
    this.#scene.add(new HemisphereLight(0xbcd8ff, 0x1a2233, 1.5));
    const sun = new DirectionalLight(0xe6f0ff, 1.5);
    sun.position.set(4, 8, 3);
    this.#scene.add(sun);
    const floor = new Mesh(new CircleGeometry(24, 64), new MeshStandardMaterial({ color: 0x0f1a2b, roughness: 1 }));
    floor.rotation.x = -Math.PI / 2;
    this.#scene.add(floor);
    const grid = new GridHelper(40, 40, 0x4d7299, 0x2c4460);
    grid.position.y = 0.004;
    this.#scene.add(grid);
    for (const [inner, outer, opacity] of [[1.46, 1.5, 0.9], [4.48, 4.5, 0.45]] as const) {
      const ring = new Mesh(new RingGeometry(inner, outer, 96), new MeshBasicMaterial({ color: 0x7cc7ff, transparent: true, opacity }));
      ring.rotation.x = -Math.PI / 2;
      ring.position.y = 0.01;
      this.#scene.add(ring);
    }
  }

  /** Everybody else: those in `names` are shown, the others go. */
  people(names: ReadonlyMap<string, string>): void {
    for (const [id, avatar] of this.#avatars) {
      if (names.get(id) === avatar.name) continue;
      this.#scene.remove(avatar.group);
      dispose(avatar.group);
      this.#avatars.delete(id);
    }
    for (const [id, name] of names) if (!this.#avatars.has(id)) this.#enter(id, name);
  }

  /** Shows a note. */
  note(note: Note): void {
    this.forget(note.id);
    const sprite = label(note.text, note.name, hue(note.by), 0.42);
    sprite.position.set(note.x, 0.62, note.z);
    const stem = new Mesh(new CapsuleGeometry(0.008, 0.4, 2, 6), new MeshBasicMaterial({ color: new Color().setHSL(hue(note.by) / 360, 0.7, 0.7) }));
    stem.position.set(note.x, 0.2, note.z);
    const group = new Group().add(sprite, stem);
    this.#scene.add(group);
    this.#notes.set(note.id, group);
  }

  /** Puts a scan in the middle of the room, in place of the last one. Units and the way up are the file's: it is made to fit. */
  scan({ object, box }: Model): void {
    dispose(this.#scan);
    this.#scan.clear();
    this.#cells = undefined;
    const [size, centre] = [box.getSize(new Vector3()), box.getCenter(new Vector3())];
    const scale = SCAN / Math.max(size.x, size.y, size.z, Number.MIN_VALUE);
    this.#scan.scale.setScalar(scale);
    this.#scan.position.set(-centre.x * scale, ABOVE - box.min.y * scale, -centre.z * scale);
    this.#scan.add(object);
    this.#scene.add(this.#scan);
  }

  /** Puts a grid where its scan is. */
  grid({ origin, cell, count, cells, occupied }: Grid): void {
    if (this.#cells) {
      this.#scan.remove(this.#cells);
      dispose(this.#cells);
    }
    const cubes = new InstancedMesh(new BoxGeometry(cell * 0.9, cell * 0.9, cell * 0.9), new MeshStandardMaterial({ color: 0x7cc7ff, transparent: true, opacity: 0.35, depthWrite: false }), Math.min(count, CELLS));
    const at = new Matrix4();
    let drawn = 0;
    // Of the largest only what is seen from outside.
    const hidden = (x: number, y: number, z: number) => count > CELLS && occupied(x - 1, y, z) && occupied(x + 1, y, z) && occupied(x, y - 1, z) && occupied(x, y + 1, z) && occupied(x, y, z - 1) && occupied(x, y, z + 1);
    for (const [x, y, z] of cells()) {
      if (drawn === cubes.count || hidden(x, y, z)) continue;
      cubes.setMatrixAt(drawn, at.makeTranslation(origin[0] + (x + 0.5) * cell, origin[1] + (y + 0.5) * cell, origin[2] + (z + 0.5) * cell));
      drawn += 1;
    }
    cubes.count = drawn;
    this.#cells = cubes;
    this.#scan.add(cubes);
  }

  /** Takes a note away. */
  forget(id: string): void {
    const old = this.#notes.get(id);
    if (!old) return;
    this.#scene.remove(old);
    dispose(old);
    this.#notes.delete(id);
  }

  /** Draws one frame. */
  draw(own: Pose, poses: ReadonlyMap<string, Pose>): void {
    const { clientWidth: width, clientHeight: height } = this.#renderer.domElement;
    const size = this.#renderer.getSize(new Vector2());
    if (size.x !== width || size.y !== height) {
      this.#renderer.setSize(width, height, false);
      this.#camera.aspect = width / Math.max(1, height);
      this.#camera.fov = width < height ? 74 : 62;
      this.#camera.updateProjectionMatrix();
    }
    this.#camera.position.set(own.x, EYES, own.z);
    this.#camera.rotation.set(own.pitch, own.yaw, 0);
    for (const [id, avatar] of this.#avatars) {
      const pose = poses.get(id);
      avatar.group.visible = pose !== undefined;
      if (!pose) continue;
      // Thirty poses a second, drawn at sixty: half the way each frame looks even.
      avatar.group.position.lerp(new Vector3(pose.x, 0, pose.z), 0.5);
      avatar.group.rotation.y = pose.yaw;
      avatar.head.rotation.x = pose.pitch;
    }
    this.#renderer.render(this.#scene, this.#camera);
  }

  /** Where on the floor a point of the screen is, if it is on the floor and near. */
  floor(clientX: number, clientY: number): { x: number; z: number } | undefined {
    const { clientWidth, clientHeight } = this.#renderer.domElement;
    const ray = new Raycaster();
    ray.setFromCamera(new Vector2((clientX / clientWidth) * 2 - 1, 1 - (clientY / clientHeight) * 2), this.#camera);
    const hit = ray.ray.intersectPlane(new Plane(new Vector3(0, 1, 0), 0), new Vector3());
    return hit && hit.distanceTo(this.#camera.position) < 16 ? { x: hit.x, z: hit.z } : undefined;
  }

  #enter(id: string, name: string): void {
    const tint = new Color().setHSL(hue(id) / 360, 0.55, 0.6);
    const cloth = new MeshStandardMaterial({ color: tint, roughness: 0.55 });
    const group = new Group();
    const body = new Mesh(new CapsuleGeometry(0.24, 0.62, 8, 20), cloth);
    body.position.y = 0.78;
    const head = new Group();
    head.position.y = 1.52;
    const skull = new Mesh(new SphereGeometry(0.2, 24, 18), cloth);
    const visor = new Mesh(new SphereGeometry(0.17, 32, 24), new MeshStandardMaterial({ color: 0x0b1018, roughness: 0.15, metalness: 0.4 }));
    visor.position.set(0, 0.02, -0.09);
    visor.scale.set(0.98, 0.62, 0.8);
    head.add(skull, visor);
    const shade = new Mesh(new CircleGeometry(0.34, 32), new MeshBasicMaterial({ color: 0x000000, transparent: true, opacity: 0.35 }));
    shade.rotation.x = -Math.PI / 2;
    shade.position.y = 0.008;
    const tag = label(name, '', hue(id), 0.3);
    tag.position.y = 2;
    group.add(body, head, shade, tag);
    group.visible = false;
    this.#scene.add(group);
    this.#avatars.set(id, { group, head, name });
  }
}

/** Text on a rounded plate that always faces the eye; `height` in metres. */
function label(text: string, below: string, tint: number, height: number): Sprite {
  const canvas = document.createElement('canvas');
  const context = canvas.getContext('2d')!;
  const big = '600 44px system-ui, sans-serif';
  const small = '30px system-ui, sans-serif';
  context.font = big;
  const shown = text.length > 40 ? `${text.slice(0, 39)}…` : text;
  canvas.width = Math.ceil(Math.max(context.measureText(shown).width, below ? 220 : 0)) + 56;
  canvas.height = below ? 124 : 84;
  context.fillStyle = 'rgb(11 16 25 / .86)';
  context.strokeStyle = `hsl(${tint} 70% 70% / .8)`;
  context.lineWidth = 3;
  context.beginPath();
  context.roundRect(2, 2, canvas.width - 4, canvas.height - 4, 26);
  context.fill();
  context.stroke();
  context.textAlign = 'center';
  context.fillStyle = '#f2f6fc';
  context.font = big;
  context.fillText(shown, canvas.width / 2, 57);
  context.font = small;
  context.fillStyle = `hsl(${tint} 70% 75%)`;
  if (below) context.fillText(below, canvas.width / 2, 102);
  const map = new CanvasTexture(canvas);
  map.colorSpace = SRGBColorSpace;
  const sprite = new Sprite(new SpriteMaterial({ map, transparent: true, depthWrite: false }));
  sprite.scale.set((height * canvas.width) / canvas.height, height, 1);
  return sprite;
}

function dispose(group: Object3D): void {
  group.traverse((part) => {
    if (part instanceof Mesh || part instanceof Points) {
      part.geometry.dispose();
      for (const material of [part.material].flat()) material.dispose();
    }
    if (part instanceof Sprite) {
      part.material.map?.dispose();
      part.material.dispose();
    }
  });
}
