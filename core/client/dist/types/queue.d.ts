/** First in, first out, in constant time each (`Array.shift` moves all that follow). */
export declare class Queue<T extends object> {
    #private;
    get length(): number;
    /** The item that `index` others precede. */
    at(index: number): T | undefined;
    push(item: T): void;
    shift(): T | undefined;
}
