import type { Check, Item } from './types';

/** What the page and the server's function `list` say to each other. */
export interface List {
  observables: { items: Item[] };
  calls: {
    add(text: string): number;
    check(check: Check): void;
  };
}
