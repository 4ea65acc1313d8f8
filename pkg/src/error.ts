/** What every call of this package throws: a stable code, a sentence, and where there is something to do about it, a hint. */
export class PeerageError extends Error {
  override readonly name = 'PeerageError';
  /** Stable text such as `invite-expired`, `no-member`, `unsupported`. */
  readonly code: string;
  /** Whether the same call may succeed later without being changed. */
  readonly retryable: boolean;
  /** What to do next. */
  readonly hint?: string;

  constructor(code: string, message: string, options: { retryable?: boolean; hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? false;
    if (options.hint !== undefined) this.hint = options.hint;
  }
}

/** The {@link PeerageError} for something thrown below. @internal */
export function coded(thrown: unknown): unknown {
  if (typeof thrown !== 'object' || thrown === null || thrown instanceof Error) return thrown;
  const { code, message, retryable, hint } = thrown as Record<string, unknown>;
  if (typeof code !== 'string' || typeof message !== 'string') return thrown;
  return new PeerageError(code, message, { retryable: retryable === true, ...(typeof hint === 'string' ? { hint } : {}) });
}

/** Runs a call into wasm. @internal */
export function call<T>(inner: () => T): T {
  try {
    return inner();
  } catch (thrown) {
    throw coded(thrown);
  }
}

/** Awaits a call into wasm. @internal */
export async function wait<T>(inner: () => Promise<T>): Promise<T> {
  try {
    return await inner();
  } catch (thrown) {
    throw coded(thrown);
  }
}
