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

/** Once the invitation has served: from now on it is stored only while the page is away, so that a reload joins again. */
export function holdInvitation(link: string): void {
  forgetInvitation();
  addEventListener('pagehide', () => sessionStorage.setItem(KEY, link));
  // Back from the browser's cache of pages.
  addEventListener('pageshow', forgetInvitation);
}

const FIRST = ['Amber', 'Azure', 'Coral', 'Dusky', 'Fern', 'Golden', 'Indigo', 'Ivory', 'Lunar', 'Misty', 'Ochre', 'Silver', 'Teal', 'Umber', 'Violet', 'Winter'];
const SECOND = ['Crane', 'Finch', 'Fox', 'Hare', 'Heron', 'Ibis', 'Lark', 'Lynx', 'Marten', 'Otter', 'Owl', 'Plover', 'Seal', 'Swift', 'Tern', 'Wren'];

/** A name for this tab, kept over reloads. */
export function ownName(): string {
  const kept = sessionStorage.getItem('peerage.name');
  if (kept) return kept;
  const pick = (list: string[]) => list[crypto.getRandomValues(new Uint8Array(1))[0]! % list.length]!;
  const name = `${pick(FIRST)} ${pick(SECOND)}`;
  sessionStorage.setItem('peerage.name', name);
  return name;
}
