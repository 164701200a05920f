import type { Session } from './session';
/**
 * Whether the element's page is there to stay. One that left before its script was loaded belongs
 * to a page that is gone, and a preview that Turbo shows from its cache is about to be replaced.
 */
export declare function isLasting(script: Element): boolean;
/** Closes the session when its script element, whose ticket has this id, has left the document. */
export declare function closeWith(script: Element, id: string, session: Session): void;
