import type { DomainCore, JobHandleCore } from '../gen/peerage.js';
import { call } from './error.js';
import { Running } from './running.js';
import { bytesOf, Source, type Content } from './source.js';
import { eventOf, Gathered, type Step, type TaskEvent } from './task.js';
import type { Codec, Where } from './types.js';

/** One task of a job ({@link Domain.submit}). */
export interface TaskSpec {
  /** What is to be done. */
  capability: string;
  /** The tasks whose results it begins with, one after the other in this order, behind its own input. */
  needs?: string[];
  /** Its own input. @defaultValue none */
  input?: Content;
  /** How its output is read, if no other task needs it. @defaultValue bytes */
  output?: Codec<unknown>;
  /** What the supplier's capability has to satisfy. */
  where?: Where;
  /** As in {@link RequestOptions}. @defaultValue 'idle' */
  prefer?: 'idle' | 'near';
  /** As in {@link RequestOptions}. @defaultValue 'wait' */
  policy?: 'wait' | 'fail' | 'any';
  /** How long it may take from its beginning, all attempts together; a result is kept no longer. @defaultValue an hour */
  timeoutMs?: number;
}

/** What happens to a task of a job. */
export type JobEvent = { task: string } & (
  | TaskEvent
  /** It is done, and its supplier keeps the result, of so many bytes, for those that need it. */
  | { type: 'kept'; supplier: string; size: number }
  /** Its result was lost, or what it was to begin with: it is done anew. */
  | { type: 'again' }
  /** It is done, and all of its output is here. */
  | { type: 'done' });

/** What the tasks came to that no other one needs, by their names. */
export type JobResult<T extends Record<string, TaskSpec>> = { [K in keyof T]?: T[K] extends { output: Codec<infer O> } ? O : Uint8Array };

/** A job under way: the promise of its results, and, iterated, what happens until then. */
export class JobHandle<R = Record<string, unknown>> extends Running<R, JobEvent> {
  readonly [Symbol.toStringTag] = 'JobHandle';
  readonly #core: JobHandleCore;
  readonly #tasks: Record<string, TaskSpec>;

  /** @internal */
  constructor(core: JobHandleCore, tasks: Record<string, TaskSpec>, signal: AbortSignal | undefined) {
    super(signal);
    this.#core = core;
    this.#tasks = tasks;
  }

  /** @internal */
  protected async run(cancel: Promise<undefined>): Promise<R> {
    const outputs = new Map<string, Gathered>();
    const ends = new Map<string, Gathered>();
    for (let next; (next = await this.#core.next(cancel) as JobStep | undefined);) {
      const [task, ...step] = next;
      if (step[0] === 'begun') outputs.set(task, new Gathered('output'));
      if (step[0] === 'done') ends.set(task, outputs.get(task) ?? new Gathered('output'));
      if (step[0] === 'output') outputs.get(task)?.add(step[1]);
      else this.tell(described(task, step), (last) => last.type === 'progress' && last.task === task);
    }
    const results: Record<string, unknown> = {};
    for (const [task, all] of ends) {
      const bytes = await all.bytes();
      const codec = this.#tasks[task]?.output;
      results[task] = codec ? codec.decode(bytes) : bytes;
    }
    return results as R;
  }

  /** @internal */
  protected free(): void {
    this.#core.free();
  }
}

type Own = ['kept', string, number] | ['again'] | ['done'];
type JobStep = [string, ...(Step | Own)];

function described(task: string, step: Exclude<Step | Own, ['output', Uint8Array]>): JobEvent {
  switch (step[0]) {
    case 'kept': return { task, type: 'kept', supplier: step[1], size: step[2] };
    case 'again': return { task, type: 'again' };
    case 'done': return { task, type: 'done' };
    default: return { task, ...eventOf(step) };
  }
}

/** @internal */
export function submit<T extends Record<string, TaskSpec>>(domain: DomainCore, tasks: T, signal: AbortSignal | undefined): JobHandle<JobResult<T>> {
  const core = call(() => domain.job());
  try {
    for (const [name, { capability, where = {}, needs = [], input, prefer = 'idle', policy = 'wait', timeoutMs = 3_600_000 }] of Object.entries(tasks)) {
      call(() => core.add(name, needs, { capability, where }, policy, prefer, timeoutMs));
      if (input === undefined) continue;
      const content = bytesOf(input);
      core.give(() => new Source(content.stream));
    }
    call(() => core.begin());
  } catch (error) {
    core.free();
    throw error;
  }
  return new JobHandle(core, tasks, signal);
}
