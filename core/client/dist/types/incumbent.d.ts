import type { Environment } from './environment';
import { type Release } from './lock';
/**
 * Makes this document the session's incumbent within this browser. Returns undefined if another
 * open document already is.
 *
 * The Web Lock `stillhere:<id>` decides. Where there are no locks (insecure contexts), a question
 * on the BroadcastChannel of that name does; it is asked only about a `contested` session. Where
 * there is neither, the server decides.
 */
export declare function becomeIncumbent(id: string, contested: boolean, environment: Environment): Promise<Release | undefined>;
