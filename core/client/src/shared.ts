import type { Environment } from './environment';
import type { Options, Session } from './session';

/** What the sessions of one window share, whichever copy of this script they come from. */
interface Shared {
  /** Lets another caller of `connect` have the living session of a ticket, by the ticket's id. */
  readonly sessions: Map<string, (options: Options) => Session>;
  /** Where sessions that are to survive a reload keep their tickets. */
  readonly places: Set<string>;
}

const KEY = Symbol.for('stillhere');

export function sharedIn(environment: Environment): Shared {
  return ((environment as { [KEY]?: Shared })[KEY] ??= { sessions: new Map(), places: new Set() });
}

/** The first place that no other session with this label has; a reload finds it again, because its sessions come in the same order. */
export function takePlace(label: string, environment: Environment): string {
  const { places } = sharedIn(environment);
  let place = label;
  for (let number = 1; places.has(place); number += 1) place = `${label}#${number}`;
  places.add(place);
  return place;
}
