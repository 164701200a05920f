/** A first-in, first-out queue with constant-time operations (`Array.shift` moves all that follow). */
export declare class Queue<T extends object> {
    #private;
    get length(): number;
    /** Returns the item that `index` others precede. */
    at(index: number): T | undefined;
    push(item: T): void;
    shift(): T | undefined;
}
