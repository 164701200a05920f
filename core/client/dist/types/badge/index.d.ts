import type { Session, Status } from '../index';
import { type BadgeTexts } from './view';
export { ENGLISH } from './view';
export type { BadgeTexts } from './view';
/** What the badge needs of a session: a `Session`, or an `AppSession`. */
export type Watched = Pick<Session, 'status' | 'onstatus' | 'retry'> & {
    watchStatus?(watcher: (status: Status) => void): () => void;
};
/**
 * The element. It shows `session`, or the script tag's session if none is set. It never reloads by
 * itself; with the attribute `reload` it offers a button that does. The attribute `inline` takes it
 * into the flow of the page.
 */
export declare class StillhereBadge extends HTMLElement {
    #private;
    constructor();
    get session(): Watched | null;
    set session(session: Watched | null);
    /** Texts in the language of the page. Those that are left out stay English. */
    get texts(): BadgeTexts;
    set texts(texts: Partial<BadgeTexts>);
    connectedCallback(): void;
    disconnectedCallback(): void;
}
