export function closuresOf(code: string, known?: readonly string[]): string;
export function withoutUnused(code: string, internal: RegExp): string;
