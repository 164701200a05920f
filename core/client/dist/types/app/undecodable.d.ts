/** A message, or a value in it, that breaks the rules of its format. */
export declare class Undecodable extends Error {
    readonly name = "Undecodable";
}
