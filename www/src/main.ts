// The demo: joins by the invitation in the address, then keeps a room that everybody in the domain shares.
import { Node, PeerageError, type Domain } from 'peerage';
import { Control } from './control.js';
import { forgetInvitation, holdInvitation, lastDomain, ownName, rememberDomain, takeInvitation } from './invitation.js';
import { byId, invitation, panels, refresh } from './panels.js';
import type { Room } from './room.js';
import { Scans } from './scans.js';
import { Shared, type Note } from './shared.js';

/** Poses a second. */
const RATE = 30;
const HINTS: Record<string, string> = {
  'invite-garbled': 'The link was cut short or changed on its way. Ask for it again, best as a QR code.',
  'invite-expired': 'Ask for a new invitation.',
  'invite-used': 'It was used as often as it allows. Ask for a new one.',
  'invite-revoked': 'Whoever made it closed it. Ask for a new one.',
  'invite-unknown': 'Nobody in the domain knows this invitation. Ask for a new one.',
  'no-relay': 'The relay named in the link does not answer. Is it running?',
  'forbidden': 'You were a member and are one no more. Ask for a new invitation.',
  'storage': 'What this browser kept cannot be read. Open an invitation in another tab, or clear this site’s data.',
  'no-member': 'Nobody of the domain is online. Try again when somebody is.',
};

function show(state: 'joining' | 'joined' | 'failed'): void {
  document.documentElement.dataset.state = state;
}

function fail(title: string, text: string, hint: string, code: string, again: boolean): void {
  show('failed');
  document.documentElement.dataset.code = code;
  byId('status').textContent = title;
  byId('gate-title').textContent = title;
  byId('gate-text').textContent = text;
  byId('gate-hint').textContent = hint;
  byId('gate-code').textContent = code;
  byId('retry').hidden = !again;
}

async function openRoom(canvas: HTMLCanvasElement): Promise<Room | undefined> {
  try {
    return new (await import('./room.js')).Room(canvas);
  } catch {
    canvas.hidden = true;
    byId('flat').hidden = false;
    return undefined;
  }
}

async function live(node: Node, domain: Domain, link: string | undefined): Promise<void> {
  const canvas = byId<HTMLCanvasElement>('room');
  const room = await openRoom(canvas);
  const shared = new Shared(domain, (note) => room?.note(note), (id) => room?.forget(id));
  const place = (at: { x: number; z: number } | undefined) => {
    if (!at) return;
    const field = byId<HTMLInputElement>('note');
    const text = field.value.trim() || `${domain.self.name} was here`;
    field.value = '';
    try {
      shared.place(text, at.x, at.z);
    } catch (error) {
      say(`The note was not placed: ${(error as Error).message}`);
    }
  };
  const control = new Control(canvas, node.id, (x, y) => place(room?.floor(x, y)));
  const ahead = () => ({ x: control.pose.x - Math.sin(control.pose.yaw) * 2, z: control.pose.z - Math.cos(control.pose.yaw) * 2 });
  byId('place').addEventListener('click', () => place(ahead()));
  byId('note').addEventListener('keydown', (e) => { if (e.key === 'Enter') place(ahead()); });
  const motion = byId<HTMLButtonElement>('motion');
  motion.hidden = !Control.hasMotion;
  motion.addEventListener('click', async () => motion.setAttribute('aria-pressed', String(await control.useMotion())));

  panels();
  new Scans(domain, room);
  if (link) invitation(link);
  else document.querySelector('[data-panel="invite"]')?.remove();
  byId('title').textContent = domain.name;
  const say = (text: string) => { byId('status').textContent = text; };
  const update = () => {
    if (domain.closed) return;
    const here = refresh(node, domain);
    room?.people(new Map(here.filter((p) => p.role === 'participant' && !p.isSelf).map((p) => [p.id, p.name])));
    flat(domain, shared);
    say(here.length > 1 ? `You are ${domain.self.name}` : `You are ${domain.self.name}. Nobody else is here yet`);
    const missing = byId('missing');
    missing.hidden = domain.missing.length === 0;
    missing.textContent = `Missing now: ${domain.missing.join(', ')}. Nobody online offers it; everything between participants goes on.`;
  };
  for (const type of ['participant', 'degraded', 'restored', 'state'] as const) domain.addEventListener(type, update);
  domain.addEventListener('closed', () => fail('You are out', 'This tab is no longer in the domain.', 'Open an invitation again.', 'closed', true));
  node.addEventListener('link', update);
  update();
  setInterval(update, 1000);
  setInterval(() => { control.step(); shared.tell(control.pose); }, 1000 / RATE);
  const draw = () => { room?.draw(control.pose, shared.poses); requestAnimationFrame(draw); };
  draw();
  Object.assign(window, { peerage: { node, domain, shared, control } });
  show('joined');
}

/** The room as a list, where it cannot be drawn. */
function flat(domain: Domain, shared: Shared): void {
  if (byId('flat').hidden) return;
  const where = ({ x, z }: { x: number; z: number }) => `at ${x.toFixed(1)}, ${z.toFixed(1)}`;
  const lines = domain.participants({ online: true }).filter((p) => p.role === 'participant').map((p) => {
    const pose = shared.poses.get(p.id);
    return p.isSelf ? `${p.name} (you)` : `${p.name} ${pose ? where(pose) : ''}`;
  });
  lines.push(...[...shared.notes.values()].map((note: Note) => `“${note.text}” by ${note.name}, ${where(note)}`));
  byId('flat-list').replaceChildren(...lines.map((line) => Object.assign(document.createElement('li'), { textContent: line })));
}

/** Joins by the link, or opens again what this browser has: the domain it was in last. Neither: no domain. */
async function enter(node: Node, link: string | undefined): Promise<Domain | undefined> {
  const as = { profile: { name: ownName(node.id) }, capabilities: [{ name: 'room/avatar' }] };
  if (link) return node.join(link, as);
  const kept = (await node.domains()).map(({ id }) => id);
  const last = lastDomain(node.id) ?? '';
  const id = kept.includes(last) ? last : kept[0];
  return id === undefined ? undefined : node.reopen(id, as);
}

async function main(): Promise<void> {
  byId('retry').addEventListener('click', () => location.reload());
  const link = takeInvitation();
  let node: Node | undefined;
  try {
    if (link) show('joining');
    byId('status').textContent = link ? 'Joining…' : 'Looking for what this browser keeps…';
    node = await Node.start();
    Object.assign(window, { peerage: { node } });
    const domain = await enter(node, link);
    if (!domain) {
      await node.close();
      return fail('An invitation is needed', 'This page opens a private room, and only an invitation leads in.', 'Open the whole link that “peerage up” printed, or scan its QR code.', 'no-invitation', false);
    }
    if (node.identity === 'persistent') {
      forgetInvitation();
      rememberDomain(node.id, domain.id);
    } else if (link) {
      holdInvitation(link);
    }
    await live(node, domain, domain.invitation()?.url ?? link);
  } catch (error) {
    await node?.close();
    if (!(error instanceof PeerageError)) throw error;
    if (!error.retryable) forgetInvitation();
    fail('You could not join', `${error.message}.`, error.hint ?? HINTS[error.code] ?? '', error.code, error.retryable);
  }
}

addEventListener('hashchange', () => location.reload());
void main();
