import type { Session } from './session';
import { sharedIn } from './shared';
import { soon } from './soon';

/**
 * Returns true if the element's page stays. If the element was removed before its script loaded,
 * its page is gone. A preview from Turbo's cache is about to be replaced.
 */
export function isLasting(script: Element): boolean {
  const { documentElement, head } = document;
  if (!documentElement.hasAttribute('data-turbo-preview')) return script.isConnected;
  // Turbo runs a script again unless it is already in the head.
  if (head.contains(script)) script.remove();
  return false;
}

/** Closes the session when its script element, whose ticket has this id, has left the document. */
export function closeWith(script: Element, id: string, session: Session): void {
  const { scripts, spent } = sharedIn(window);
  // An element restored from Turbo's cache yields to the next one, as elements of other addresses
  // do.
  const address = spent.has(id) ? '' : location.pathname + location.search;
  // If a navigation replaces only the body, the heads of all pages accumulate. So the elements that
  // an earlier page added to the head are removed with that page.
  for (const [other, before] of scripts) {
    if (before !== address && [script, other].every((element) => document.head.contains(element))) other.remove();
  }
  scripts.set(script, address);
  /**
   * Observes the child lists of the element's ancestors, because the element may be removed with
   * any of them. The rest of the tree is not observed.
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
