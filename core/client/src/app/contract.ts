// The types of what a page and its server exchange, which an application may declare.

import type { LaneName } from '../delivery';

/**
 * Declares names and types, for `connect<Board>(...)`. Without one, every name is allowed, and what
 * is received has the type that the page says.
 *
 * ```ts
 * interface Board {
 *   events: { moved: Point };
 *   calls: { save(drawing: Drawing): Saved };
 *   observables: { count: number };
 *   message: Chat;
 * }
 * ```
 */
export interface Contract {
  readonly events?: object;
  readonly calls?: object;
  readonly observables?: object;
  readonly message?: unknown;
}

export type EventsOf<C> = C extends { readonly events: infer E extends object } ? E : Record<string, unknown>;
export type CallsOf<C> = C extends { readonly calls: infer E extends object } ? E : object;
export type ObservablesOf<C> = C extends { readonly observables: infer E extends object } ? E : object;
export type MessageOf<C> = C extends { readonly message: infer M } ? M : unknown;

/** Handles values. A method, so that its parameter may be narrower than `unknown`. */
export type ValueHandler<M> = { handle(value: M, lane: LaneName): unknown }['handle'];

export type NameIn<T> = keyof T & string;
/** Names allowed if there is no contract. */
export type AnyName<T> = [keyof T] extends [never] ? string : never;
export type QueryOf<F> = F extends (query: infer Q) => unknown ? Q : unknown;
export type AnswerOf<F> = F extends (query: never) => infer A ? Awaited<A> : unknown;
/** Parameters for a value, which may be left out if it may be undefined or null. */
export type Given<T> = undefined extends T ? [value?: T] : null extends T ? [value?: T] : [value: T];
