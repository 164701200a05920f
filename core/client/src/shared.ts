import type { OpenConnection } from './kinds';
import type { Options, Session } from './session';

/** What one window's sessions share, whichever copy of this script they come from. */
interface Shared {
  /** Lets another caller of `connect` have the living session of a ticket, by the ticket's id. */
  readonly sessions: Map<string, (options: Options) => Session>;
  /** Where sessions that are to survive a reload keep their tickets. */
  readonly places: Set<string>;
  /** Elements that hold a session, with the address of the page that brought them. */
  readonly scripts: Map<Element, string>;
  /** Ids of the tickets whose elements have left. */
  readonly spent: Set<string>;
  readonly kinds: Map<string, OpenConnection>;
  /** Run when the kind of this name is registered. */
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

/** The first place that no other session with this label has; a reload finds it again, because its sessions come in the same order. */
export function takePlace(label: string, window: object): string {
  const { places } = sharedIn(window);
  let place = label;
  for (let number = 1; places.has(place); number += 1) place = `${label}#${number}`;
  places.add(place);
  return place;
}
