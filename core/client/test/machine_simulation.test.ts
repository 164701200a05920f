import assert from 'node:assert/strict';
import { test } from 'node:test';

import { DocumentMachine, type Lane, type Limits, OutboxFull } from '../src/machine';
import { greatestCharge, ModelServer } from './model_server';
import { DOCUMENT, SECRET } from './page';
import { generator } from './random';

const LANES: readonly Lane[] = [0, 1];

/** A page, a server and a network that loses connections, for one seed. */
class World {
  readonly limits: Limits;
  readonly random: () => number;
  readonly machine: DocumentMachine;
  readonly server: ModelServer;
  now = 0;
  connection = 0;
  isOpen = false;
  /** True if the connection is lost, but the client does not know yet. */
  isDead = false;
  toServer: Uint8Array[] = [];
  toClient: Uint8Array<ArrayBuffer>[] = [];
  readonly sent: [string[], string[]] = [[], []];
  readonly expected: [string[], string[]] = [[], []];
  readonly taken: [string[], string[]] = [[], []];
  readonly inHand = [false, false];
  connections = 0;

  constructor(seed: number) {
    this.random = generator(seed);
    const fragment = 1 + this.int(200);
    const window = (fragment + 64) * (4 + this.int(8));
    const bulkWindow = (fragment + 64) * (4 + this.int(4));
    this.limits = { fragment, message: fragment * (1 + this.int(12)), inflated: 1, window, bulkWindow };
    this.machine = new DocumentMachine({ secret: SECRET, document: DOCUMENT, limits: this.limits, outbox: 4000, random: this.random });
    this.server = new ModelServer(this.limits);
    this.machine.start(this.now);
  }

  int(below: number): number {
    return Math.floor(this.random() * below);
  }

  /** Passes the client's outputs to the network. */
  pump(): void {
    for (let frame; (frame = this.machine.pollTransmit(this.connection, this.random() < 0.5, this.now)); ) if (!this.isDead) this.toServer.push(frame);
    for (let action; (action = this.machine.pollAction()); ) {
      if (action.type === 'connect') {
        this.connection = action.connection;
        this.connections++;
      } else if (action.connection !== this.connection) continue;
      this.isOpen = this.isDead = false;
      this.cut();
    }
    for (let event; (event = this.machine.pollEvent()); ) {
      if (event.type === 'welcomed') this.server.welcomed();
      assert.ok(event.type !== 'ended' && event.type !== 'refused', JSON.stringify(event));
    }
  }

  /** Drops everything in flight. */
  cut(): void {
    this.toServer = [];
    this.toClient = [];
    this.server.lose();
  }

  message(): Buffer {
    const { fragment, message } = this.limits;
    const size = [0, Math.min(1 + this.int(9), message), fragment, this.int(message + 1), message][this.int(5)]!;
    return Buffer.from(Array.from({ length: size }, () => this.int(256)));
  }

  deliver(count: number): void {
    for (; count > 0 && this.toServer.length; count--) this.server.handle(this.toServer.shift()!);
    this.toClient.push(...this.server.output.splice(0));
    for (count = this.int(4); count > 0 && this.toClient.length; count--) {
      this.machine.handleFrame(this.connection, this.toClient.shift()!, this.now);
      if (this.random() < 0.7) this.pump();
    }
  }

  take(lane: Lane): void {
    if (this.inHand[lane]) {
      this.machine.release(lane, this.now);
      this.inHand[lane] = false;
      return;
    }
    const message = this.machine.take(lane);
    if (!message) return;
    this.inHand[lane] = true;
    this.taken[lane].push(Buffer.from(message.payload).toString('hex'));
  }

  step(trouble: boolean): void {
    this.now += this.int(30);
    const lane = LANES[this.int(2)]!;
    switch (this.int(trouble ? 16 : 10)) {
      case 0:
      case 1:
        this.server.flush(1 + this.int(5));
        break;
      case 2:
        this.server.acknowledge();
        break;
      case 3:
        this.server.lanes[lane].take();
        break;
      case 4:
      case 5:
        this.take(lane);
        break;
      case 6:
        if (!this.isOpen && this.machine.phase === 'connecting') {
          this.isOpen = true;
          this.machine.handleOpen(this.connection, this.now);
        }
        break;
      case 7:
      case 8:
      case 9:
        this.deliver(1 + this.int(4));
        break;
      case 10: {
        const message = this.message();
        try {
          this.machine.send(lane, message, this.now);
          this.sent[lane].push(message.toString('hex'));
        } catch (error) {
          assert.ok(error instanceof OutboxFull);
        }
        break;
      }
      case 11: {
        const message = this.message();
        this.server.lanes[lane].send(message);
        this.expected[lane].push(message.toString('hex'));
        break;
      }
      case 12:
        if (this.int(4)) break;
        this.cut();
        this.machine.handleClose(this.connection, 1006, this.now);
        break;
      case 13:
        if (this.int(3) === 0) this.machine.handleWake(this.now);
        break;
      case 14:
        if (this.int(10) === 0) this.machine.handleLeave(this.now);
        else this.server.ping(this.int(1000));
        break;
      case 15:
        if (this.int(10)) break;
        this.isDead = true;
        this.cut();
    }
    this.pump();
    const timeout = this.machine.pollTimeout();
    if (timeout !== undefined && timeout <= this.now) this.machine.handleTimeout(this.now);
    this.pump();
    for (const lane of LANES) {
      const window = lane ? this.limits.bulkWindow : this.limits.window;
      assert.ok(this.machine.inboxCharge(lane) <= window + greatestCharge(this.limits));
    }
  }

  get isSettled(): boolean {
    return LANES.every((lane) => this.taken[lane].length === this.expected[lane].length && this.server.lanes[lane].messages.length === this.sent[lane].length
      && this.server.lanes[lane].acknowledged === this.server.lanes[lane].sent.length) && !this.machine.unacknowledgedMessages();
  }
}

test('whatever the network loses every message arrives once and in order', () => {
  let connections = 0;
  let messages = 0;
  for (let seed = 1; seed <= 100; seed++) {
    try {
      const world = new World(seed);
      for (let step = 0; step < 1500; step++) world.step(true);
      if (world.machine.phase === 'left') world.machine.handleWake(world.now);
      for (let step = 0; step < 100_000 && !world.isSettled; step++) world.step(false);
      assert.ok(world.isSettled, 'stuck');
      for (const lane of LANES) {
        assert.deepEqual(world.taken[lane], world.expected[lane]);
        assert.deepEqual(world.server.lanes[lane].messages, world.sent[lane]);
        assert.equal(world.machine.bufferedCharge(lane), 0);
        messages += world.sent[lane].length + world.taken[lane].length;
      }
      connections += world.connections;
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
  assert.ok(connections > 1000 && messages > 3000, `too little happened: ${connections} connections, ${messages} messages`);
});
