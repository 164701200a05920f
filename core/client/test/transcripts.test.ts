// The conversations of `vectors/transcripts.json`: given the server's frames, the times and the
// application's calls, the document's side sends exactly the frames in the transcript.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { type Action, DocumentMachine, type Lane, type Limits } from '../src/machine';

interface Step {
  act: 'connect' | 'frame' | 'close' | 'send' | 'take' | 'leave' | 'wake' | 'drain' | 'wait';
  by?: 'client' | 'server' | 'network';
  connection?: number;
  document?: string;
  hex?: string;
  lost?: true;
  code?: number;
  lane?: Lane;
  text?: string;
  ms?: number;
}

interface Book {
  secret: string;
  documents: Record<string, string>;
  limits: Omit<Limits, 'bulkWindow'> & { bulk_window: number };
  transcripts: { name: string; client_violates_the_protocol?: true; steps: Step[] }[];
}

const book = JSON.parse(readFileSync(new URL('../../vectors/transcripts.json', import.meta.url), 'utf8')) as Book;
const bytesOf = (hex: string): Uint8Array<ArrayBuffer> => Uint8Array.from(Buffer.from(hex, 'hex'));

/** All documents of a transcript. */
class Documents {
  readonly #machines = new Map<string, { machine: DocumentMachine; actions: Action[]; own: number; connection: number }>();
  /** Document of each connection. */
  readonly #owners = new Map<number, string>();
  readonly #said = new Map<number, string[]>();
  #now = 1000;

  constructor() {
    const { bulk_window: bulkWindow, ...limits } = book.limits;
    for (const [name, id] of Object.entries(book.documents)) {
      const machine = new DocumentMachine({ secret: bytesOf(book.secret), document: bytesOf(id), limits: { ...limits, bulkWindow }, random: () => 0.5 });
      this.#machines.set(name, { machine, actions: [], own: 0, connection: 0 });
    }
  }

  replay(steps: Step[]): void {
    for (const step of steps) {
      const what = JSON.stringify(step);
      this.#pump();
      if (step.act === 'wait') this.#wait(step.ms!);
      else if (step.act === 'frame' && step.by === 'client') assert.equal(this.#said.get(step.connection!)?.shift(), step.hex, what);
      else if (!step.lost) this.#act(step, what);
    }
    this.#pump();
    for (const said of this.#said.values()) assert.deepEqual(said, [], 'no more is said');
  }

  #act(step: Step, what: string): void {
    if (step.act === 'connect') this.#owners.set(step.connection!, step.document!);
    const name = step.document ?? this.#owners.get(step.connection!);
    const document = this.#machines.get(name ?? '');
    if (!document) return;
    const { machine, actions } = document;
    const isMine = step.by === 'client';
    switch (step.act) {
      case 'connect': {
        machine.start(this.#now);
        this.#pump();
        const action = actions.shift();
        assert.equal(action?.type, 'connect', what);
        document.own = action!.connection;
        document.connection = step.connection!;
        machine.handleOpen(document.own, this.#now);
        break;
      }
      case 'frame':
        machine.handleFrame(document.own, bytesOf(step.hex!), this.#now);
        break;
      case 'close':
        if (isMine) assert.deepEqual(actions.shift(), { type: 'close', connection: document.own, code: step.code }, what);
        else machine.handleClose(document.own, step.code!, this.#now);
        break;
      case 'send':
        if (isMine) machine.send(step.lane!, Buffer.from(step.text!), this.#now);
        break;
      case 'take':
        if (!isMine) break;
        assert.equal(Buffer.from(machine.take(step.lane!)?.payload ?? []).toString(), step.text, what);
        machine.release(step.lane!, this.#now);
        break;
      case 'leave':
        machine.handleLeave(this.#now);
        break;
      case 'wake':
        machine.handleWake(this.#now);
    }
  }

  #pump(): void {
    for (const { machine, actions, own, connection } of this.#machines.values()) {
      const said = this.#said.get(connection) ?? [];
      for (let frame; (frame = machine.pollTransmit(own, true, this.#now)); ) said.push(Buffer.from(frame).toString('hex'));
      this.#said.set(connection, said);
      for (let action; (action = machine.pollAction()); ) actions.push(action);
    }
  }

  #wait(duration: number): void {
    const end = this.#now + duration;
    const due = () => Math.min(...[...this.#machines.values()].map(({ machine }) => machine.pollTimeout() ?? Infinity));
    for (let at; (at = due()) <= end; this.#pump()) {
      this.#now = Math.max(this.#now, at);
      for (const { machine } of this.#machines.values()) machine.handleTimeout(this.#now);
    }
    this.#now = end;
  }
}

for (const { name, steps, client_violates_the_protocol: isWrong } of book.transcripts) {
  if (!isWrong) test(`the document's half of a transcript: ${name}`, () => new Documents().replay(steps));
}
