import type { Session } from './session';
import { sharedIn } from './shared';
import { soon } from './soon';

/**
 * Whether the element's page is there to stay. One that left before its script was loaded belongs
 * to a page that is gone, and a preview that Turbo shows from its cache is about to be replaced.
 */
export function isLasting(script: Element): boolean {
  const { documentElement, head } = document;
  if (!documentElement.hasAttribute('data-turbo-preview')) return script.isConnected;
  // Turbo runs again what is not in the head yet.
  if (head.contains(script)) script.remove();
  return false;
}

/** Closes the session when its script element, whose ticket has this id, has left the document. */
export function closeWith(script: Element, id: string, session: Session): void {
  const { scripts, spent } = sharedIn(window);
  // An element that comes again, with a page from Turbo's cache, makes room for the next as those
  // of other addresses do.
  const address = spent.has(id) ? '' : location.pathname + location.search;
  // Where only the body is swapped, the heads of all pages add up: what the head of a page before
  // this one has brought goes with that page.
  for (const [other, before] of scripts) {
    if (before !== address && [script, other].every((element) => document.head.contains(element))) other.remove();
  }
  scripts.set(script, address);
  /** An element leaves with one of its ancestors: their children are looked at, not the whole tree below them. */
  const observe = (): void => {
    for (let node = script.parentNode; node; node = node.parentNode) observer.observe(node, { childList: true });
  };
  const observer = new MutationObserver(() => {
    observer.disconnect();
    if (script.isConnected) return observe();
    // What is moved to another place may be in none for a moment.
    soon(window, () => {
      if (script.isConnected) return observe();
      scripts.delete(script);
      spent.add(id);
      session.close();
    });
  });
  observe();
}
