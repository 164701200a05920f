// A page that may get new tickets, for the tests of renewal.

import { EVERY_FEATURE } from '../src/connect';
import { type Options, Session } from '../src/session';
import type { Status } from '../src/status';
import type { From, Ticket } from '../src/ticket';
import { FakePage, type PageOptions } from './fake_page';
import { accept, encodeEnd, ticketOf } from './fake_server';

export const UNKNOWN = encodeEnd(4100);

export const pageOf = (...tickets: unknown[]): string => tickets.map((ticket) => `<script data-stillhere='${JSON.stringify(ticket)}'></script>`).join('');

export const refusedWith = (code: number, retryAfter = 5000): Ticket => ({ protocol: 'stillhere.v1', refused: { code, retryAfter, text: `refused with ${code}` } });

export interface Request extends RequestInit {
  address: string;
}

/** A page, its session, its requests for tickets and the answers to them. */
export class Fixture {
  readonly page: FakePage;
  readonly session: Session;
  readonly requests: Request[] = [];
  /** Answers in order. Without one, the network is down. */
  readonly answers: (string | Response)[] = [];
  readonly statuses: Status[] = [];
  readonly messages: string[] = [];

  constructor(html: string, ticket: Ticket | From = ticketOf('own'), options: Options = {}, pageOptions: PageOptions = {}) {
    this.page = new FakePage(pageOptions);
    this.page.html = html;
    Object.assign(this.page, {
      fetch: async (address: string, options: RequestInit) => {
        this.requests.push({ address, ...options });
        const answer = this.answers.shift();
        if (answer === undefined) throw new TypeError('Failed to fetch');
        return typeof answer === 'string' ? new Response(answer) : answer;
      },
    });
    const onstatus = (status: Status): void => void this.statuses.push(status);
    const onmessage = (data: Uint8Array): void => void this.messages.push(Buffer.from(data).toString());
    this.session = new Session(ticket, { onstatus, onmessage, ...options }, this.page, EVERY_FEATURE);
  }

  static async connected(html: string, ...rest: [(Ticket | From)?, Options?, PageOptions?]): Promise<Fixture> {
    const fixture = new Fixture(html, ...rest);
    await fixture.settle();
    accept(fixture.page.socket);
    fixture.page.socket.read();
    fixture.statuses.length = 0;
    return fixture;
  }

  async settle(): Promise<void> {
    for (let turn = 0; turn < 5; turn += 1) await this.page.browser.settle();
  }

  /** Refuses the newest connection, at its hello if it has not been welcomed. */
  async refuse(frame = UNKNOWN): Promise<void> {
    this.page.socket.open();
    this.page.socket.receive(frame);
    await this.settle();
  }

  /** Welcomes the newest connection; returns the ticket that it presents. */
  accept(): string {
    return Buffer.from(accept(this.page.socket).secret, 'base64url').toString().replace(/(\D+\d*).*/, '$1').slice(0, 3);
  }

  get states(): string[] {
    return this.statuses.map(({ state, outcome, reason }) => `${state} ${outcome} ${reason}`.trim());
  }
}
