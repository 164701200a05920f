export function closuresOf(code: string, except?: readonly string[]): string;
