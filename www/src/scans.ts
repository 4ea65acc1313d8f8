// Scans: stored as domain data, shown in the room, and turned into occupancy grids by whoever offers that.
import type { Domain, Entry } from 'peerage';
import { grid as read, occupancy, type Grid } from 'peerage/occupancy';
import { byId, bytes, element } from './panels.js';
import type { Model } from './model.js';

const CAPABILITY = 'map/occupancy';
const FOLDER = 'scans/';
/** A scan is in memory while it is looked at, bytes. */
const LONGEST = 256 * 1024 * 1024;

/** Where a scan and its grid are shown. */
export interface Stage {
  /** Puts a scan in the middle of the room, in place of the last one. */
  scan(model: Model): void;
  /** Puts a grid where its scan is. */
  grid(grid: Grid): void;
}

/** The list of the scans that the domain keeps, and what can be done with each. */
export class Scans {
  readonly #domain: Domain;
  readonly #stage: Stage | undefined;
  readonly #rows = new Map<string, { entry: Entry; item: HTMLElement; said: HTMLElement }>();
  #shown: string | undefined;

  constructor(domain: Domain, stage: Stage | undefined) {
    this.#domain = domain;
    this.#stage = stage;
    const file = byId<HTMLInputElement>('scan-file');
    file.addEventListener('change', () => {
      for (const each of file.files ?? []) void this.#store(each);
      file.value = '';
    });
    const panel = byId('scans');
    addEventListener('dragover', (event) => event.preventDefault());
    addEventListener('drop', (event) => {
      event.preventDefault();
      if (panel.hidden) document.querySelector<HTMLButtonElement>('[data-panel="scans"]')?.click();
      for (const each of event.dataTransfer?.files ?? []) void this.#store(each);
    });
    this.#help(byId<HTMLInputElement>('scan-help'));
    void this.#watch();
  }

  /** Grids for others are made in this tab while the box is ticked. */
  #help(box: HTMLInputElement): void {
    let served: (() => void) | undefined;
    box.addEventListener('change', () => {
      served?.();
      served = box.checked ? this.#domain.serve(CAPABILITY, occupancy()) : undefined;
    });
  }

  async #watch(): Promise<void> {
    while (!this.#domain.closed) {
      try {
        for await (const { entry } of this.#domain.data.watch({ prefix: FOLDER })) this.#row(entry);
      } catch (error) {
        if (this.#domain.closed) return;
        this.#tell(`The list of scans stands still: ${(error as Error).message}`);
        await new Promise((resolve) => setTimeout(resolve, 5_000));
      }
    }
  }

  #tell(text: string): void {
    byId('scan-status').textContent = text;
  }

  async #store(file: File): Promise<void> {
    if (!/\.(ply|obj|glb)$/i.test(file.name)) return this.#tell(`${file.name} is none of PLY, OBJ and GLB.`);
    if (file.size > LONGEST) return this.#tell(`${file.name} is over ${bytes(LONGEST)}.`);
    const progress = ({ done }: { done: number }) => this.#tell(`Storing ${file.name}: ${Math.floor((100 * done) / Math.max(1, file.size))} %`);
    try {
      progress({ done: 0 });
      await this.#domain.data.put(FOLDER + file.name, file, { onProgress: progress });
      this.#tell(`${file.name} is stored: everybody here can see it, the manager cannot.`);
    } catch (error) {
      this.#tell(`${file.name} was not stored: ${(error as Error).message}`);
    }
  }

  #row(entry: Entry): void {
    const old = this.#rows.get(entry.path);
    if (entry.deleted) {
      old?.item.remove();
      this.#rows.delete(entry.path);
      return;
    }
    if (old) {
      old.entry = entry;
      return;
    }
    const item = element('li', '');
    item.dataset.path = entry.path;
    const said = element('div', 'facts', bytes(entry.length));
    const row = { entry, item, said };
    const who = element('div', 'who');
    const button = (text: string, act: () => Promise<void>) => {
      const made = element('button', 'small', text) as HTMLButtonElement;
      made.type = 'button';
      made.addEventListener('click', async () => {
        made.disabled = true;
        try {
          await act();
        } catch (error) {
          said.textContent = (error as Error).message;
        }
        made.disabled = false;
      });
      return made;
    };
    who.append(element('strong', '', entry.path.slice(FOLDER.length)), button('Show', () => this.#show(row)), button('Grid', () => this.#grid(row)));
    item.append(who, said);
    byId('scan-list').append(item);
    this.#rows.set(entry.path, row);
  }

  async #content({ entry, said }: Row): Promise<Blob> {
    if (entry.length > LONGEST) throw new Error(`it is over ${bytes(LONGEST)}`);
    const onProgress = ({ done, total }: { done: number; total: number }) => { said.textContent = `${bytes(done)} of ${bytes(total)}`; };
    return (await this.#domain.data.get(entry.path, { onProgress })).blob();
  }

  async #show(row: Row): Promise<void> {
    await this.#present(row, await this.#content(row));
  }

  async #present({ entry, said }: Row, content: Blob): Promise<void> {
    const { model } = await import('./model.js');
    const shown = await model(entry.path, content);
    this.#stage?.scan(shown);
    this.#shown = entry.path;
    said.textContent = `${bytes(entry.length)} · ${shown.vertices.toLocaleString('en')} vertices`;
  }

  async #grid(row: Row): Promise<void> {
    const content = await this.#content(row);
    // Both are seen together.
    if (this.#shown !== row.entry.path) await this.#present(row, content);
    const task = this.#domain.request(CAPABILITY, content, { prefer: 'near' });
    row.said.textContent = 'Waiting for somebody who makes grids: a tab that helps, or peerage join --serve map/occupancy';
    const name = (id: string) => this.#domain.participants().find((p) => p.id === id)?.name ?? id.slice(-8);
    let by = '';
    for await (const event of task) {
      if (event.type === 'begun') by = name(event.supplier);
      if (event.type === 'lost') row.said.textContent = `${name(event.supplier)} was lost; asking another one`;
      else row.said.textContent = `${by} works on it${event.type === 'progress' ? `: ${share(event.value)} %` : ''}`;
    }
    const made = read(await task);
    this.#stage?.grid(made);
    row.item.dataset.occupied = String(made.count);
    row.said.textContent = `${made.dims.join(' × ')} cells, ${made.count.toLocaleString('en')} occupied, by ${by}`;
  }
}

type Row = { entry: Entry; item: HTMLElement; said: HTMLElement };

/** Percent, of what a supplier says: somebody else's word. */
function share(value: unknown): number {
  const { done, total } = (value ?? {}) as { done?: unknown; total?: unknown };
  return typeof done === 'number' && typeof total === 'number' && total > 0 ? Math.floor((100 * Math.min(done, total)) / total) : 0;
}
