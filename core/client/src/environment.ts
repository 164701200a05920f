// The browser APIs that a session uses. A `window` satisfies the interface; tests pass fakes.

import type { Bytes } from './wire';

export interface Environment extends Listenable {
  readonly WebSocket: new (url: string, protocol: string) => Socket;
  /** Without `fetch`, there is no fallback. */
  fetch?(url: string, options: RequestInit): Promise<Response>;
  readonly MessageChannel: new () => { readonly port1: Port; readonly port2: Port };
  /** Absent outside documents. */
  readonly DOMParser?: new () => { parseFromString(text: string, type: 'text/html'): Queryable };
  /** Absent or unusable in some old or embedded browsers. */
  readonly BroadcastChannel?: new (name: string) => Port;
  /** Absent before Safari 16.4. */
  readonly DecompressionStream?: new (format: 'deflate') => Decompression;
  readonly Date: { now(): number };
  readonly Math: { random(): number };
  readonly performance: { now(): number; getEntriesByType(type: 'navigation'): readonly object[] };
  readonly crypto: { getRandomValues(array: Bytes): Bytes };
  readonly console: { error(...values: readonly unknown[]): void };
  readonly location: { readonly href: string; readonly pathname: string; readonly search: string };
  /** Reading it throws where storage is forbidden. */
  readonly sessionStorage: Pick<Storage, 'getItem' | 'setItem' | 'removeItem'>;
  /** Locks are absent in insecure contexts. */
  readonly navigator: { readonly onLine: boolean; readonly locks?: Locks };
  readonly document: Listenable & Queryable & { readonly baseURI: string; readonly hidden: boolean; readonly prerendering?: boolean };
  /** The frame of this page. The top frame is its own parent. */
  readonly self: Frame;
  setTimeout(run: () => void, delay: number): unknown;
  clearTimeout(timer: unknown): void;
}

export interface Socket {
  binaryType: string;
  readonly bufferedAmount: number;
  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent<unknown>) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  onerror: ((event: Event) => void) | null;
  send(data: Bytes): void;
  close(code: number): void;
}

export interface Port {
  onmessage: ((event: MessageEvent<unknown>) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
}

export interface Decompression {
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Bytes>;
}

export interface Locks {
  request(name: string, options: { ifAvailable: true }, granted: (lock: object | null) => Promise<void> | undefined): Promise<unknown>;
}

export interface Frame {
  readonly parent: Frame;
  readonly length: number;
  readonly [index: number]: Frame;
}

export interface Queryable {
  querySelectorAll(selector: string): Iterable<Markup>;
}

export type Markup = Pick<Element, 'localName' | 'getAttribute'>;

export interface Listenable {
  addEventListener(type: string, listener: (event: Event) => void, options: { signal?: AbortSignal; once?: boolean; passive?: boolean; capture?: boolean }): void;
}
