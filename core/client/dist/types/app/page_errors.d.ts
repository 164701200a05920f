import type { Environment } from '../environment';
import type { Outgoing } from './outgoing';
/** Reports the page's errors to the server. */
export declare class PageErrors {
    #private;
    constructor(outgoing: Outgoing, environment: Pick<Environment, 'performance'>);
    /** Reports uncaught errors and unhandled rejections until `signal` is aborted. */
    watch(environment: Pick<Environment, 'addEventListener'>, signal: AbortSignal): void;
    /** Reports an error, unless too many were reported within the minute. Never throws. */
    report(source: string, error: unknown): void;
}
