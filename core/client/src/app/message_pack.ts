import { decodeMessagePack } from './message_pack_decoder';
import { encodeMessagePack } from './message_pack_encoder';
import type { Piece } from './piece';

/** Values in MessagePack, which the server sends if it is built with that codec. */
export const messagePack: Piece<never> = ({ formats }) => {
  formats.messagePack = { encode: encodeMessagePack, decode: decodeMessagePack };
  return {};
};
