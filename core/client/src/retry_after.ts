/**
 * Returns how many milliseconds `Retry-After` asks to wait, given in seconds or as a date. The
 * result is not positive, or is NaN, if it asks for no wait.
 */
export function retryAfterOf({ headers }: Response, wall: number): number {
  const after = headers.get('retry-after');
  return after ? Number(after) * 1000 || Date.parse(after) - wall : 0;
}
