// A session on a fake page, for the tests of sessions.

import { EVERY_FEATURE } from '../src/connect';
import { type Options, Session } from '../src/session';
import type { Status } from '../src/status';
import type { Ticket } from '../src/ticket';
import { FakePage, type PageOptions } from './fake_page';
import { accept, ticketOf } from './fake_server';

export const text = (data: Uint8Array): string => Buffer.from(data).toString();
export const bytes = (content: string): Uint8Array => Buffer.from(content);

/** A session and everything it reported. */
export class Fixture {
  readonly page: FakePage;
  readonly session: Session;
  readonly messages: string[] = [];
  readonly statuses: Status[] = [];

  constructor(page: PageOptions = {}, options: Options = {}, ticket: Ticket = ticketOf('mine')) {
    this.page = new FakePage(page);
    const onmessage = (data: Uint8Array, lane: string): void => void this.messages.push(`${lane} ${text(data)}`);
    const onstatus = (status: Status): void => void this.statuses.push(status);
    this.session = new Session(ticket, { onmessage, onstatus, ...options }, this.page, EVERY_FEATURE);
  }

  static async connected(page: PageOptions = {}, options: Options = {}, ticket?: Ticket): Promise<Fixture> {
    const fixture = new Fixture(page, options, ticket);
    await fixture.settle();
    accept(fixture.page.socket);
    await fixture.settle();
    fixture.statuses.length = 0;
    return fixture;
  }

  settle(): Promise<void> {
    return this.page.browser.settle();
  }

  advance(time: number): Promise<void> {
    return this.page.browser.advance(time);
  }
}
