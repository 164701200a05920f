import type { Environment } from '../environment';
import type { Session } from '../session';
import { Observable, type Publisher } from './observable';
import type { Outgoing } from './outgoing';
import { type Unit } from './unit';
/** The observables of a session by name. Of each, one value at a time is on its way. */
export declare class Observables implements Publisher {
    #private;
    constructor(raw: Session, outgoing: Outgoing, environment: Pick<Environment, 'setTimeout' | 'performance'>, report: (source: string, error: unknown) => void);
    /** Returns the observable of a name; `initial` counts only for the first call. */
    get<T>(name: string, initial: T): Observable<T>;
    /** Takes a set from the server. Throws `Undecodable`. */
    receive(set: Unit): void;
    publish(observable: Observable<never>): void;
    failed(source: string, error: unknown): void;
    /** Sends what can be sent, after a change of the session's status. */
    flush(): void;
    /** Begins anew with a new session. */
    reset(): void;
    /** Drops what was not sent. */
    end(): void;
}
