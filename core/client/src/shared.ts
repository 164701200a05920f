import type { OpenConnection } from './kinds';
import type { Options, Session } from './session';

/** State shared by all sessions of a window, even across several copies of this script. */
interface Shared {
  /** Returns the existing session of a ticket to another caller of `connect`, by the ticket's id. */
  readonly sessions: Map<string, (options: Options) => Session>;
  /** Storage places in use by sessions that survive a reload. */
  readonly places: Set<string>;
  /** Elements that hold a session, each with the address of its page. */
  readonly scripts: Map<Element, string>;
  /** Ids of tickets whose elements have been removed from the document. */
  readonly spent: Set<string>;
  readonly kinds: Map<string, OpenConnection>;
  /** Callbacks to run when the kind of this name is registered. */
  readonly awaited: Map<string, (() => void)[]>;
}

const KEY = Symbol.for('stillhere');

export function sharedIn(window: object): Shared {
  return ((window as { [KEY]?: Shared })[KEY] ??= {
    sessions: new Map(),
    places: new Set(),
    scripts: new Map(),
    spent: new Set(),
    kinds: new Map(),
    awaited: new Map(),
  });
}

/**
 * Takes the first place that no other session of this label uses. A reload finds it again because
 * it creates its sessions in the same order.
 */
export function takePlace(label: string, window: object): string {
  const { places } = sharedIn(window);
  let place = label;
  for (let number = 1; places.has(place); number += 1) place = `${label}#${number}`;
  places.add(place);
  return place;
}
