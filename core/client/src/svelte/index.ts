// Stores for Svelte. An observable of the session is a store already: `$count`.

import type { AppSession } from '../app/app_session';
import type { Status } from '../status';

/** Returns the session's status as a store. */
export function status(session: Pick<AppSession, 'status' | 'watchStatus'>): { subscribe(run: (status: Status) => void): () => void } {
  return {
    subscribe(run) {
      run(session.status);
      return session.watchStatus(run);
    },
  };
}
