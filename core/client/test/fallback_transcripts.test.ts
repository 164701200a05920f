// The conversations of the fallback in `vectors/transcripts.json`: given the server's answers, and
// the same time and acts of the application, the document's half makes exactly the POSTs that the
// transcript has.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { ConnectionLoop } from '../src/connection';
import { EveryAccess } from '../src/every_access';
import { DocumentMachine, type Lane, type Limits } from '../src/machine';
import { POLLED, STREAMED } from '../src/route';
import type { Bytes } from '../src/wire';
import { type FakePost, answerPosts } from './fake_http';
import { FakePage } from './fake_page';

interface Step {
  act: 'post' | 'answer' | 'more' | 'end' | 'break' | 'send' | 'take' | 'drain' | 'wait';
  by?: 'client' | 'server' | 'network';
  post?: number;
  hex?: string;
  wait?: number;
  status?: number;
  open?: true;
  lost?: true;
  lane?: Lane;
  text?: string;
  ms?: number;
}

interface Book {
  secret: string;
  documents: Record<string, string>;
  tokens: Record<string, string>;
  limits: Omit<Limits, 'bulkWindow'> & { bulk_window: number };
  fallback: { name: string; servers_only?: true; steps: Step[] }[];
}

const book = JSON.parse(readFileSync(new URL('../../vectors/transcripts.json', import.meta.url), 'utf8')) as Book;
const bytesOf = (hex: string): Bytes => Uint8Array.from(Buffer.from(hex, 'hex'));
const hexOf = (bytes: Bytes): string => Buffer.from(bytes).toString('hex');

class Document {
  readonly #page = new FakePage();
  /** POSTs that no step has consumed yet. */
  readonly #made = answerPosts(this.#page);
  /** POSTs by their numbers in the transcript. */
  readonly #posts = new Map<number, FakePost>();
  readonly #machine: DocumentMachine;
  readonly #loop: ConnectionLoop;

  constructor(kind: string) {
    const tokens = Object.values(book.tokens);
    this.#page.crypto.getRandomValues = (array) => (array.set(bytesOf(tokens.shift()!)), array);
    const { bulk_window: bulkWindow, ...limits } = book.limits;
    this.#machine = new DocumentMachine({ secret: bytesOf(book.secret), document: bytesOf(book.documents['A']!), limits: { ...limits, bulkWindow }, random: () => 0.5 });
    this.#loop = new ConnectionLoop(this.#machine, new EveryAccess(this.#page), () => this.#now, this.#page, () => this.#pump());
    this.#loop.direct('https://example.com/stillhere/mine', kind);
  }

  get #now(): number {
    return this.#page.performance.now();
  }

  async replay(steps: Step[]): Promise<void> {
    this.#machine.start(this.#now);
    for (const step of steps) {
      this.#pump();
      await this.#page.browser.settle();
      await this.#act(step, JSON.stringify(step));
    }
    this.#pump();
    await this.#page.browser.settle();
    assert.deepEqual(this.#made.map(({ options }) => hexOf(options.body as Bytes)), [], 'no more is said');
  }

  /** Flushes twice, because a connection may open during the first flush. */
  #pump(): void {
    this.#loop.flush();
    this.#loop.flush();
  }

  async #act(step: Step, what: string): Promise<void> {
    const post = this.#posts.get(step.post!);
    const isMine = step.by === 'client';
    const made = this.#made.shift();
    assert.equal(made && hexOf(made.options.body as Bytes), isMine && step.act === 'post' ? step.hex : undefined, what);
    switch (step.act) {
      case 'post':
        if (isMine) this.#posts.set(step.post!, made!);
        break;
      case 'answer':
        if (step.lost) post?.fail();
        else if (step.status !== 200) post?.status(step.status!);
        else if (step.open) post?.streamBytes(bytesOf(step.hex!));
        else post?.answerBytes(bytesOf(step.hex!));
        break;
      case 'more':
        if (!step.lost) post!.pushBytes(bytesOf(step.hex!));
        break;
      case 'end':
        post!.end();
        break;
      case 'break':
        post!.fail();
        break;
      case 'send':
        if (isMine) this.#machine.send(step.lane!, Buffer.from(step.text!), this.#now);
        break;
      case 'take':
        if (!isMine) break;
        assert.equal(Buffer.from(this.#machine.take(step.lane!)?.payload ?? []).toString(), step.text, what);
        this.#machine.release(step.lane!, this.#now);
        break;
      case 'wait':
        await this.#page.browser.advance(step.ms!);
    }
  }
}

for (const { name, steps, servers_only: isForServers } of book.fallback) {
  if (!isForServers) test(`the document's half of a transcript: ${name}`, () => new Document(steps[0]!.wait === 0 ? STREAMED : POLLED).replay(steps));
}
