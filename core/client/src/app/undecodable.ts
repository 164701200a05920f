/** A message, or a value in it, that breaks the rules of its format. */
export class Undecodable extends Error {
  override readonly name = 'Undecodable';
}
