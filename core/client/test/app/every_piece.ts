// The whole layer, as `attach` has it, and its values without a session.

import { streams } from '../../src/app/calls';
import { handlers } from '../../src/app/handlers';
import type { Host } from '../../src/app/host';
import { messagePack } from '../../src/app/message_pack';
import { arrays } from '../../src/app/numeric_array';
import { observables } from '../../src/app/observables';
import { pageErrors } from '../../src/app/page_errors';
import type { Piece } from '../../src/app/piece';
import { rooms } from '../../src/app/rooms';
import { type Codec, Values } from '../../src/app/value';
import type { Bytes } from '../../src/wire';

export const EVERY_PIECE: readonly Piece[] = [streams, handlers, observables, rooms, arrays, messagePack, pageErrors];

function valuesIn(codec: Codec): Values {
  const values = new Values(codec);
  for (const piece of [arrays, messagePack]) piece({ formats: values } as Host);
  return values;
}

export function encodeValue(head: readonly number[], value: unknown, codec: Codec): Bytes {
  return valuesIn(codec).encode(head, value);
}

export function decodeValue(bytes: Bytes, at: number): unknown {
  return valuesIn('json').decode({ bytes, at });
}
