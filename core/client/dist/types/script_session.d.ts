import type { connect as Connect } from './connect';
import type { Session } from './session';
/**
 * Connects the session of a script element. Returns undefined if the element has none, or its page
 * is about to go. The session closes when the element has left the document.
 */
export declare function connectScript(script: HTMLOrSVGScriptElement | null, connect: typeof Connect): Session | undefined;
