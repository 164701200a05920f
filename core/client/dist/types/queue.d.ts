/** A FIFO queue with constant-time operations. (`Array.shift` moves all remaining items.) */
export declare class Queue<T extends object> {
    #private;
    get length(): number;
    /** Returns the item at `index`, counted from the front. */
    at(index: number): T | undefined;
    push(item: T): void;
    shift(): T | undefined;
}
