import type { Session } from './session';
/**
 * Returns true if the element's page stays. If the element was removed before its script loaded,
 * its page is gone. A preview from Turbo's cache is about to be replaced.
 */
export declare function isLasting(script: Element): boolean;
/** Closes the session when its script element, whose ticket has this id, has left the document. */
export declare function closeWith(script: Element, id: string, session: Session): void;
