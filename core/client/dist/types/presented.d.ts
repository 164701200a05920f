import type { Environment } from './environment';
import { type Credentials, type OpenTicket } from './ticket';
/** The ticket that this document presents: its page's own, or that of an earlier document of the page (PROTOCOL.md, section 14). */
export declare class PresentedTicket {
    #private;
    constructor(base: string, environment: Environment);
    get credentials(): Credentials | undefined;
    /** The page's own ticket, or a newer one in its place; throws if it is none. */
    take(own: OpenTicket): void;
    /** Prefers what is stored to the page's own, if it fits and no living document of this browser uses it. */
    choose(): Promise<void>;
    /** The server will have none of it: true if there is the page's own to present instead. */
    fallBack(): boolean;
    /**
     * Keeps a ticket that a reload may present, and tells the other documents of this browser that
     * this one uses the session. Another may do so too: then the server decides.
     */
    hold(): void;
    /** Leaves the session to the next document of the page, whose address may have changed by now. */
    leave(): void;
    /** The session is of no more use. */
    discard(): void;
    /** No other session takes the place of this one. */
    free(): void;
}
