// Lists and figures around the room. Every figure comes from the node, as it is now.
import { qr, type Domain, type Link, type Node, type Participant } from 'peerage';
import { hue } from './shared.js';

/** The element with this id; it is in index.html. */
export const byId = <T extends HTMLElement = HTMLElement>(id: string): T => document.getElementById(id) as T;

/** Bytes for people. */
export function bytes(n: number): string {
  if (n < 1000) return `${n} B`;
  return n < 1_000_000 ? `${(n / 1000).toFixed(1)} KB` : `${(n / 1_000_000).toFixed(1)} MB`;
}

/** Buttons that open one panel at a time. */
export function panels(): void {
  const buttons = [...document.querySelectorAll<HTMLButtonElement>('[data-panel]')];
  const show = (name?: string) => {
    for (const button of buttons) {
      const open = button.dataset.panel === name && button.getAttribute('aria-expanded') === 'false';
      button.setAttribute('aria-expanded', String(open));
      byId(button.dataset.panel!).hidden = !open;
    }
  };
  for (const button of buttons) button.addEventListener('click', () => show(button.dataset.panel));
  addEventListener('keydown', (e) => { if (e.key === 'Escape') show(); });
}

/** The invitation as picture and as text to copy. */
export function invitation(link: string): void {
  byId<HTMLImageElement>('qr').src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(qr(link))}`;
  const copy = byId<HTMLButtonElement>('copy');
  copy.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(link);
      copy.textContent = 'Copied';
    } catch {
      copy.textContent = 'This browser did not allow it';
    }
    setTimeout(() => { copy.textContent = 'Copy the link'; }, 2000);
  });
}

/** What the panels show, read anew. */
export function refresh(node: Node, domain: Domain): Participant[] {
  const all = domain.participants();
  const here = all.filter((p) => p.presence === 'online' || p.presence === 'suspended');
  const links = new Map(domain.links().map((link) => [link.peer, link]));
  byId('count').textContent = String(here.filter((p) => p.role === 'participant').length);
  byId('list').replaceChildren(...here.map((p) => row(p, links.get(p.id))));
  figures(node, domain, here, links);
  return here;
}

/** A new element. */
export function element(tag: string, className: string, text = ''): HTMLElement {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function row(p: Participant, link: Link | undefined): HTMLElement {
  const item = element('li', '');
  item.dataset.id = p.id;
  const who = element('div', 'who');
  const dot = element('span', 'dot');
  dot.style.background = `hsl(${hue(p.id)} 55% 60%)`;
  const path = p.isSelf ? 'you' : (link?.path ?? 'no link');
  item.dataset.path = path;
  who.append(dot, element('strong', '', p.name || p.id.slice(-8)), element('span', `badge ${path}`, path));
  item.append(who);
  const facts = [p.role === 'manager' ? 'manager' : '', p.presence === 'suspended' ? 'asleep' : ''];
  if (link && !p.isSelf) facts.push(link.rttMs === undefined ? '' : `${link.rttMs.toFixed(link.rttMs < 10 ? 1 : 0)} ms`, `↑ ${bytes(link.sent)}`, `↓ ${bytes(link.received)}`);
  item.append(element('div', 'facts', facts.filter(Boolean).join(' · ')));
  if (p.capabilities.length > 0) item.append(element('div', 'facts', p.capabilities.map((c) => `${c.name} v${c.version}`).join(', ')));
  return item;
}

function figures(node: Node, domain: Domain, here: Participant[], links: Map<string, Link>): void {
  const peers = here.filter((p) => p.role === 'participant' && !p.isSelf);
  const direct = peers.filter((p) => links.get(p.id)?.path === 'direct').length;
  const relayed = peers.flatMap((p) => (links.get(p.id)?.path === 'relayed' ? [links.get(p.id)!] : []));
  const carried = relayed.reduce((sum, link) => sum + link.sent + link.received, 0);
  byId('relay-live').textContent = peers.length === 0
    ? 'Now: nobody else is here.'
    : `Now: ${direct} of ${peers.length} reached directly, past the relay. ${relayed.length === 0 ? 'It carries nothing between participants.' : `It carries ${relayed.length}: ${bytes(carried)} of ciphertext on links that are up.`}`;
  const managers = here.filter((p) => p.role === 'manager');
  const talked = managers.reduce((sum, p) => sum + (links.get(p.id)?.sent ?? 0), 0);
  byId('manager-live').textContent = managers.length === 0 ? 'Now: no manager is here.' : `Now: ${bytes(talked)} sent to it over the present link, all of it directory and membership.`;
  const stats = domain.stats();
  const refused = Object.values(stats.rejected).reduce((a, b) => a + b, 0);
  byId('tab-live').textContent = `${stats.sealed} frames sealed, ${stats.opened} opened, ${refused} refused. ${node.links().length} links.`;
}
