import type { Environment } from '../environment';
import type { Session } from '../session';
import type { NewestValues } from './newest';
import { Observable, type Publisher } from './observable';
import type { Unit } from './unit';
/** The observables of a session by name. */
export declare class Observables implements Publisher {
    #private;
    constructor(raw: Session, newest: NewestValues, environment: Pick<Environment, 'performance'>, report: (source: string, error: unknown) => void);
    /** Returns the observable of a name; `initial` counts only for the first call. */
    get<T>(name: string, initial: T): Observable<T>;
    /** Takes a set from the server. Throws `Undecodable`. */
    receive(set: Unit): void;
    publish(observable: Observable<never>): void;
    failed(source: string, error: unknown): void;
    /** Begins anew with a new session. */
    reset(): void;
}
