export type Item = { text: string, done: boolean, };
export type Check = { index: number, done: boolean, };
