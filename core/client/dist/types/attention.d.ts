import type { Environment } from './environment';
/** Tells that the user does something with the page, while that is asked for. */
export declare class Attention {
    #private;
    constructor(environment: Environment, told: () => void);
    watch(isWanted: boolean): void;
}
