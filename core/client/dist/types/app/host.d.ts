import { type LaneName } from '../delivery';
import type { Environment } from '../environment';
import type { Session } from '../session';
import type { AppOptions } from './app_session';
import { FAILURES } from './call_error';
import { type Fields, Kind } from './unit';
import { Values } from './value';
/** The parts of a browser that the layer uses. */
export type AppEnvironment = Pick<Environment, 'addEventListener' | 'setTimeout' | 'clearTimeout' | 'performance' | 'console'>;
/** What the pieces of the layer share in a session. What it sends throws like `Session.send`. */
export declare class Host {
    #private;
    readonly raw: Session;
    readonly options: AppOptions<never>;
    readonly environment: AppEnvironment;
    readonly formats: Values;
    /** Told of a handler that threw. */
    readonly failed: (source: string, error: unknown) => void;
    constructor(raw: Session, options: AppOptions<never>, environment: AppEnvironment, failed: (source: string, error: unknown) => void);
    /** Sends a value. Also throws for a value that cannot be encoded. */
    put(kind: Kind, fields: Fields, value?: unknown): void;
    content(kind: Kind, fields: Fields, content: Uint8Array, lane?: LaneName): void;
    /** Answers a call with a failure, as soon as there is room. */
    refuse(id: number, failure: (typeof FAILURES)[number], text: string): void;
    /** Sends, again and again while the outbox is full: somebody waits for it, until `signal` is aborted. */
    insist(send: () => void, failed: (error: unknown) => void, signal?: AbortSignal): void;
    /** Runs a handler of the application. The result never rejects. */
    run(source: string, run: () => unknown): unknown;
    /** Position of the last unit. `acknowledged` reaches it when the server has that unit. */
    get position(): number;
    get acknowledged(): number;
}
