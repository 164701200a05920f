import type { Session } from './session';
/** Closes the session when its script element has left the document. */
export declare function closeWith(script: Element, session: Session): void;
