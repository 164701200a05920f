/** Style of the badge. A page changes it by the variables, or by `::part(badge)`. */
export const STYLE = `
:host {
  position: fixed; inset-inline: 0; inset-block-end: var(--stillhere-offset, 1rem); z-index: var(--stillhere-z-index, 2147483000);
  display: flex; justify-content: center; pointer-events: none; color-scheme: light dark;
}
:host([inline]) { position: static; }
div {
  display: none; pointer-events: auto; align-items: center; gap: .75em; max-width: min(40rem, 90vw);
  padding: .6em 1em; border-radius: var(--stillhere-radius, .5rem);
  font: var(--stillhere-font, 0.9rem/1.4 system-ui, sans-serif);
  color: var(--stillhere-color, #1f2328); background: var(--stillhere-background, #fff);
  border: 1px solid var(--stillhere-border, #d0d7de); border-inline-start: 4px solid var(--stillhere-accent, #bf8700);
  box-shadow: 0 4px 16px rgb(0 0 0 / 15%);
}
div[data-state] { display: flex; animation: appear .2s; }
div[data-state=ended], div[data-state=refused] { border-inline-start-color: var(--stillhere-end, #cf222e); }
small { display: block; opacity: .8; font-size: .9em; }
small:empty { display: none; }
button {
  flex: none; font: inherit; color: inherit; background: none; border: 1px solid currentcolor; border-radius: .35em; padding: .25em .75em; cursor: pointer;
}
button:focus-visible { outline: 2px solid var(--stillhere-accent, #bf8700); outline-offset: 2px; }
@keyframes appear { from { opacity: 0; transform: translateY(.5rem); } }
@media (prefers-reduced-motion: reduce) { div[data-state] { animation: none; } }
@media (prefers-color-scheme: dark) {
  div {
    color: var(--stillhere-color, #e6edf3); background: var(--stillhere-background, #161b22); border-color: var(--stillhere-border, #30363d);
    border-inline-start-color: var(--stillhere-accent, #d29922);
  }
}
`;
