import type { Session } from './session';
/**
 * Returns true if the element's page stays. An element that left before its script was loaded
 * belongs to a page that is gone, and a preview from Turbo's cache is about to be replaced.
 */
export declare function isLasting(script: Element): boolean;
/** Closes the session when its script element, whose ticket has this id, has left the document. */
export declare function closeWith(script: Element, id: string, session: Session): void;
