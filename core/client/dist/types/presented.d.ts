import type { Environment } from './environment';
import { type Credentials, type OpenTicket } from './ticket';
/**
 * Chooses the ticket that this document presents: that of its page, or that of an earlier document
 * of the page (PROTOCOL.md, section 14).
 */
export declare class PresentedTicket {
    #private;
    constructor(base: string, environment: Environment);
    get chosen(): Credentials | undefined;
    /** Sets the page's own ticket, or a newer one that replaces it. Throws if it is not a ticket. */
    take(own: OpenTicket): void;
    /**
     * Prefers the stored ticket to the page's own if it fits and no other open document of this
     * browser uses it.
     */
    choose(): Promise<void>;
    /**
     * Handles the refusal of a ticket. Returns true if the page's own ticket can be presented
     * instead.
     */
    fallBack(): boolean;
    /**
     * Keeps a ticket that a reload may present, and tells the other documents of this browser that
     * this one uses the session. If another one does too, the server decides.
     */
    hold(): void;
    /** Hands the session to the next document of the page, whose address may have changed. */
    leave(): void;
    /** Forgets a session that has become useless. */
    discard(): void;
    /** Makes sure that no other session takes the place of this one. */
    free(): void;
}
