import type { AppSession } from '../app/app_session';
import type { Status } from '../status';
/** Returns the session's status as a store. */
export declare function status(session: Pick<AppSession, 'status' | 'watchStatus'>): {
    subscribe(run: (status: Status) => void): () => void;
};
