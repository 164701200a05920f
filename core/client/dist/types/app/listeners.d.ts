import type { Host } from './host';
/** Functions of the application by name, each called until it is removed. */
export declare class Listeners<F extends (...values: never[]) => unknown> {
    #private;
    constructor(host: Host);
    /** Adds a listener, even one that is there already. Returns a function that removes it. */
    add(name: string, listener: F): () => void;
    has(name: string): boolean;
    /** Calls the listeners of a name. What they throw is reported with the `source`. */
    tell(source: string, name: string, ...values: Parameters<F>): void;
}
