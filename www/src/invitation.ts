// The invitation link: taken out of the address bar at once, kept for this tab alone.

const KEY = 'peerage.invitation';

/** The link this tab was opened with, or was opened with before its reload. */
export function takeInvitation(): string | undefined {
  if (location.hash.length > 1) {
    sessionStorage.setItem(KEY, location.href);
    history.replaceState(null, '', location.pathname + location.search);
  }
  return sessionStorage.getItem(KEY) ?? undefined;
}

/** After an invitation was refused: a reload must not try it again. */
export function forgetInvitation(): void {
  sessionStorage.removeItem(KEY);
}

/**
 * Once the invitation has served, where nothing but the tab itself is kept: from now on it is stored only while the page is away, so
 * that a reload joins again.
 */
export function holdInvitation(link: string): void {
  forgetInvitation();
  addEventListener('pagehide', () => sessionStorage.setItem(KEY, link));
  // Back from the browser's cache of pages.
  addEventListener('pageshow', forgetInvitation);
}

const ROOM = 'peerage.room/';

/** Notes the domain this node is in, for the next page. */
export function rememberDomain(node: string, domain: string): void {
  localStorage.setItem(ROOM + node, domain);
}

/** The domain this node was in last. */
export function lastDomain(node: string): string | undefined {
  return localStorage.getItem(ROOM + node) ?? undefined;
}

const FIRST = ['Amber', 'Azure', 'Coral', 'Dusky', 'Fern', 'Golden', 'Indigo', 'Ivory', 'Lunar', 'Misty', 'Ochre', 'Silver', 'Teal', 'Umber', 'Violet', 'Winter'];
const SECOND = ['Crane', 'Finch', 'Fox', 'Hare', 'Heron', 'Ibis', 'Lark', 'Lynx', 'Marten', 'Otter', 'Owl', 'Plover', 'Seal', 'Swift', 'Tern', 'Wren'];

/** A name for this tab, kept over reloads. Without one it follows from the node's id, so that who comes back is called the same. */
export function ownName(node: string): string {
  const kept = sessionStorage.getItem('peerage.name');
  if (kept) return kept;
  const mixed = [...node].reduce((sum, letter) => (Math.imul(sum, 31) + letter.charCodeAt(0)) >>> 0, 7);
  const name = `${FIRST[mixed % FIRST.length]} ${SECOND[Math.floor(mixed / FIRST.length) % SECOND.length]}`;
  sessionStorage.setItem('peerage.name', name);
  return name;
}
