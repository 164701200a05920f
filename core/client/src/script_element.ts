import type { Session } from './session';
import { sharedIn } from './shared';
import { soon } from './soon';

/**
 * Returns true if the element's page stays. An element that left before its script was loaded
 * belongs to a page that is gone, and a preview from Turbo's cache is about to be replaced.
 */
export function isLasting(script: Element): boolean {
  const { documentElement, head } = document;
  if (!documentElement.hasAttribute('data-turbo-preview')) return script.isConnected;
  // Turbo runs scripts again that are not in the head yet.
  if (head.contains(script)) script.remove();
  return false;
}

/** Closes the session when its script element, whose ticket has this id, has left the document. */
export function closeWith(script: Element, id: string, session: Session): void {
  const { scripts, spent } = sharedIn(window);
  // An element that returns with a page from Turbo's cache makes room for the next one, as those of
  // other addresses do.
  const address = spent.has(id) ? '' : location.pathname + location.search;
  // If only the body is replaced, the heads of all pages accumulate: elements that an earlier page
  // added to the head leave with that page.
  for (const [other, before] of scripts) {
    if (before !== address && [script, other].every((element) => document.head.contains(element))) other.remove();
  }
  scripts.set(script, address);
  /**
   * An element may leave with one of its ancestors. Only their child lists are observed, not the
   * whole tree.
   */
  const observe = (): void => {
    for (let node = script.parentNode; node; node = node.parentNode) observer.observe(node, { childList: true });
  };
  const observer = new MutationObserver(() => {
    observer.disconnect();
    if (script.isConnected) return observe();
    // A moved element may have no parent for a moment.
    soon(window, () => {
      if (script.isConnected) return observe();
      scripts.delete(script);
      spent.add(id);
      session.close();
    });
  });
  observe();
}
