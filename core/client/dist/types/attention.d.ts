import type { Environment } from './environment';
/** Reports that the user does something with the page, while it is switched on. */
export declare class Attention {
    #private;
    constructor(environment: Environment, told: () => void);
    watch(isWanted: boolean): void;
}
