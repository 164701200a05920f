/** The milliseconds for which `Retry-After` asks to wait, in seconds or until a date; neither above 0 nor a number where it asks for none. */
export function retryAfterOf({ headers }: Response, wall: number): number {
  const after = headers.get('retry-after');
  return after ? Number(after) * 1000 || Date.parse(after) - wall : 0;
}
