import type { Session } from './session';
import { sharedIn } from './shared';

/** Closes the session when its script element has left the document. */
export function closeWith(script: Element, session: Session): void {
  const { scripts } = sharedIn(window);
  const address = location.pathname + location.search;
  // Where only the body is swapped, the heads of all pages add up: what the head of a page before this one has brought goes with that page.
  for (const [other, before] of scripts) {
    if (before !== address && [script, other].every((element) => document.head.contains(element))) other.remove();
  }
  scripts.set(script, address);
  const observer = new MutationObserver(() => {
    observer.disconnect();
    if (script.isConnected) return observe();
    scripts.delete(script);
    session.close();
  });
  /** An element leaves with one of its ancestors: their children are looked at, not the whole tree below them. */
  const observe = (): void => {
    for (let node = script.parentNode; node; node = node.parentNode) observer.observe(node, { childList: true });
  };
  observe();
}
