import type { Environment } from './environment';
import { type Release } from './lock';
/**
 * Makes this document the incumbent of a session among the documents of this browser; undefined if
 * another living document is.
 *
 * The judge is the Web Lock `stillhere:<id>`; where there are none (insecure contexts) a question
 * on the BroadcastChannel of that name, which is asked only of a `contested` session; where there
 * is neither, nobody: then the server decides.
 */
export declare function becomeIncumbent(id: string, contested: boolean, environment: Environment): Promise<Release | undefined>;
