/** State of the newest of some calls. `answer` stays that of the last call that had one. */
export interface CallState<A> {
  readonly isPending: boolean;
  readonly answer: A | undefined;
  /** Why the newest call failed: a `CallError`, or what `AppSession.call` rejects with. */
  readonly error: unknown;
}

/** Follows calls for `useSyncExternalStore`. */
export class CallStore<A> {
  #state: CallState<A> = { isPending: false, answer: undefined, error: undefined };
  #newest: Promise<A> | undefined;
  readonly #listeners = new Set<() => void>();

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  readonly getSnapshot = (): CallState<A> => this.#state;

  /** Shows the state of this call from now on, and returns the call. */
  follow(call: Promise<A>): Promise<A> {
    this.#newest = call;
    const isNewest = (): boolean => this.#newest === call;
    this.#change({ ...this.#state, isPending: true, error: undefined });
    call.then(
      (answer) => isNewest() && this.#change({ isPending: false, answer, error: undefined }),
      (error: unknown) => isNewest() && this.#change({ ...this.#state, isPending: false, error }),
    );
    return call;
  }

  #change(state: CallState<A>): void {
    this.#state = state;
    for (const listener of [...this.#listeners]) listener();
  }
}
