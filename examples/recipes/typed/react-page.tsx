import { StrictMode, useState, type FormEvent } from 'react';
import { createRoot } from 'react-dom/client';
import type { Ticket } from 'stillhere';
import { useCall, useObservable, useSession, useStatus } from 'stillhere/react';

import type { List } from './contract';

function App({ ticket }: { ticket: Ticket }) {
  const session = useSession<List>(ticket);
  const status = useStatus(session);
  const [items] = useObservable(session, 'items', []);
  const [add, { isPending, error }] = useCall(session, 'add');
  const [text, setText] = useState('');

  async function submit(event: FormEvent) {
    event.preventDefault();
    await add(text).then(() => setText(''), () => {}); // `error` has the reason
  }

  return (
    <main data-state={status?.state}>
      <ul>
        {items.map(({ text, done }, index) => (
          <li key={index}>
            <label>
              <input type="checkbox" checked={done} onChange={() => session?.call('check', { index, done: !done })} /> {text}
            </label>
          </li>
        ))}
      </ul>
      <form onSubmit={submit}>
        <input aria-label="Text" value={text} onChange={(event) => setText(event.target.value)} />
        <button disabled={isPending}>Add</button>
      </form>
      {error instanceof Error && <p role="alert">{error.message}</p>}
    </main>
  );
}

const ticket: Ticket = await (await fetch('/typed/ticket', { method: 'POST' })).json();
createRoot(document.getElementById('root')!).render(<StrictMode><App ticket={ticket} /></StrictMode>);
