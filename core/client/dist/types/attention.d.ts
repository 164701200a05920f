import type { Environment } from './environment';
/** Reports user activity on the page while it is switched on. */
export declare class Attention {
    #private;
    constructor(environment: Environment, told: () => void);
    watch(isWanted: boolean): void;
}
