import type { OpenConnection } from './kinds';
import type { Options, Session } from './session';

/** State that all sessions of a window share, whichever copy of this script created them. */
interface Shared {
  /** Returns the living session of a ticket to another caller of `connect`, by the ticket's id. */
  readonly sessions: Map<string, (options: Options) => Session>;
  /** Places where sessions that survive a reload keep their tickets. */
  readonly places: Set<string>;
  /** Elements that hold a session, with the address of the page that they came with. */
  readonly scripts: Map<Element, string>;
  /** Ids of the tickets whose elements have left the document. */
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

/** Takes the first place that no other session with this label has. A reload finds it again, because it creates its sessions in the same order. */
export function takePlace(label: string, window: object): string {
  const { places } = sharedIn(window);
  let place = label;
  for (let number = 1; places.has(place); number += 1) place = `${label}#${number}`;
  places.add(place);
  return place;
}
