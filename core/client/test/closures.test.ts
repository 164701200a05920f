// The build's rewriting of classes into functions, which changes nothing that a class does, and its
// removal of what nobody uses.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { closuresOf, withoutUnused } from '../closures.mjs';

/** Runs a script and returns what it leaves in `result`. */
function run(code: string): unknown {
  return new Function(`${code}; return result;`)();
}

/** Asserts that the rewritten code has no class and gives this result, as the original does. */
function check(code: string, expected: unknown): void {
  assert.deepEqual(run(code), expected);
  const rewritten = closuresOf(code);
  assert.doesNotMatch(rewritten, /\bclass\b|this|#|\bconst\b|\bnew A\b/);
  assert.deepEqual(run(rewritten), expected);
}

test('fields, methods and accessors, private and public', () => {
  check(
    `const A = class {
      shown = 1;
      unset;
      #field = 2;
      #unset;
      get seen() { return this.#field + this.#twice; }
      set seen(value) { this.#field = value; }
      get #twice() { return 2 * this.#field; }
      add(count = 1) { this.#field += count; return this; }
      async later() { await undefined; this.#raise(); return this.add(10).seen; }
      #raise() { this.shown++; this.#unset ??= 5; this.#field += this.#unset; }
      all() { this.#raise(); return [this.shown, this.#field, this.unset, ...[1].map((each) => each + this.#field)]; }
    };
    const one = new A();
    const other = new A;
    other.seen = 100;
    other.shown = 7;
    one.add().add(2);
    const result = [one.seen, one.all(), other.seen, other.all(), other.add() === other];`,
    [15, [2, 10, undefined, 11], 300, [8, 105, undefined, 106], true],
  );
});

test('parameters that initialize fields, and a constructor that returns early', () => {
  check(
    `const A = class {
      #name;
      #other;
      #size;
      kept;
      constructor(name, size = name.length, { other } = { other: 3 }) {
        this.#name = name;
        this.#size = size;
        this.#other = { name, size: size + 1, other };
        this.kept = [name, name.name];
        if (size > 3) return;
        this.#size = 0;
      }
      rename(name) { const size = name.length; this.#name = name; return size; }
      all() { return [this.#name, this.#size, this.#other, this.kept]; }
    };
    const one = new A('name');
    const other = new A('a', 2, { other: 4 });
    const result = [one.rename('new'), one.all(), other.all()];`,
    [3, ['new', 4, { name: 'name', size: 5, other: 3 }, ['name', undefined]], ['a', 0, { name: 'a', size: 3, other: 4 }, ['a', undefined]]],
  );
});

test('a method with a computed name', () => {
  check(
    `const A = class {
      #items = [1, 2];
      [Symbol.iterator]() { return this.#items.values(); }
    };
    const result = [...new A()];`,
    [1, 2],
  );
});

test('a class that pages know is known by instanceof', () => {
  const code = `const A = class { #field = 1; get field() { return this.#field; } }; const one = new A(); const result = [one instanceof A, one.field, {} instanceof A];`;
  assert.deepEqual(run(code), [true, 1, false]);
  const rewritten = closuresOf(code, ['A']);
  assert.doesNotMatch(rewritten, /this|#/);
  assert.deepEqual(run(rewritten), [true, 1, false]);
});

test('what cannot be rewritten fails', () => {
  for (const body of ['static a = 1', '[Symbol.iterator] = 1', 'a() { return function () { return this; }; }', 'a($b) {}', '#a; constructor(a) { this.#a = a; (a) => a; }']) {
    assert.throws(() => closuresOf(`const A = class { ${body} };`), body);
  }
  assert.throws(() => closuresOf('const A = class {}; 1 instanceof A;'), /instanceof A/);
  assert.equal(closuresOf('const A = class extends Error { a = this; };'), 'let A = class extends Error { a = this; };');
});

test('functions of an object that nobody reads are removed, and then what only they have used', () => {
  const code = `function lone() {}
    const inner = { once() { return lone; }, ['gone']: 1 };
    const object = { gone() { return inner.once(); }, get gone() { return 1; }, gone: () => 2, shown() {}, gone: 3, read() { return 4; }, nested: { gone() {}, read: 1 } };
    const { read } = object;
    const result = [read(), object.shown, object.nested.read];`;
  const removed = withoutUnused(code, /^(?:gone|once|read)$/);
  assert.equal(removed.replaceAll(/\s+/g, ' '), `function lone() {} const inner = {['gone']: 1}; const object = {shown() {},gone: 3,read() { return 4; },nested: {read: 1}}; const { read } = object; const result = [read(), object.shown, object.nested.read];`);
  assert.equal(withoutUnused('const a = { gone() {} }; a.gone();', /^gone$/), 'const a = { gone() {} }; a.gone();');
});
