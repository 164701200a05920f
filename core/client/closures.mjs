// Turns classes into functions, in which private fields are variables and private methods are
// functions. Minifiers shorten variables to one letter without a `this.#` before it, and join what
// is used once; they cannot do either with private members.

import { parse } from 'acorn';

const isPrivate = ({ key }) => key.type === 'PrivateIdentifier';
const isFunction = ({ type }) => /^Function(?:Expression|Declaration)$/.test(type);

/** Calls `visit` with the node, its parent, and everything below it, unless `visit` returns false. */
function walk(node, visit, parent) {
  if (visit(node, parent) === false) return;
  for (const child of Object.values(node).flat()) {
    if (typeof child?.type === 'string') walk(child, visit, node);
  }
}

/** Replaces parts of a text. A replacement within a part that is replaced as a whole is lost. */
class Edits {
  #text;
  #edits = [];

  constructor(text) {
    this.#text = text;
  }

  replace({ start, end }, text) {
    this.#edits.push({ start, end, text });
  }

  /** Returns the edited text of a node. */
  of({ start, end }) {
    let edited = '';
    let at = start;
    const within = this.#edits.filter((edit) => edit.start >= start && edit.end <= end);
    // The outer one of two edits comes first, and the text after it starts behind the inner one.
    for (const edit of within.sort((one, other) => one.start - other.start || other.end - one.end)) {
      if (edit.start < at) continue;
      edited += this.#text.slice(at, edit.start) + edit.text;
      at = edit.end;
    }
    return edited + this.#text.slice(at, end);
  }
}

/**
 * Rewrites a bundle: each `name = class { … }` that extends nothing becomes a function that returns
 * the object. Those whose names are in `known` stay classes for `instanceof` and `new`. Variables
 * are declared with `let`, which is shorter and joined with its neighbours.
 */
export function closuresOf(code, known = []) {
  const tree = parse(code, { ecmaVersion: 2022, sourceType: 'module' });
  const edits = new Edits(code);
  const classes = new Map();
  walk(tree, (node, parent) => {
    if (node.type === 'Identifier' && node.name.startsWith('$')) throw new Error(`${node.name} may be a private field`);
    if (node.type === 'VariableDeclaration' && node.kind === 'const') edits.replace({ start: node.start, end: node.start + 5 }, 'let');
    if (node.type !== 'ClassExpression' || node.superClass || parent.type !== 'VariableDeclarator') return;
    classes.set(parent.id.name, node);
  });
  walk(tree, (node) => {
    if (node.type === 'NewExpression' && classes.has(node.callee.name) && !known.includes(node.callee.name)) {
      edits.replace({ start: node.start, end: node.callee.start }, '');
      if (!code.slice(node.callee.end, node.end)) edits.replace({ start: node.end, end: node.end }, '()');
    }
    if (node.type === 'BinaryExpression' && node.operator === 'instanceof' && classes.has(node.right.name) && !known.includes(node.right.name)) throw new Error(`instanceof ${node.right.name}`);
  });
  for (const [name, node] of classes) {
    edits.replace(node, known.includes(name) ? knownClosureOf(name, node.body.body, edits) : `function ${closureOf(node.body.body, edits)}`);
  }
  return edits.of(tree);
}

/**
 * Removes the functions among the properties of objects whose names match `internal` and are never
 * read. Only the bundle itself may know these names.
 */
export function withoutUnused(code, internal) {
  const tree = parse(code, { ecmaVersion: 2022, sourceType: 'module' });
  const edits = new Edits(code);
  const used = new Set();
  const objects = [];
  walk(tree, (node, parent) => {
    if (node.type === 'MemberExpression' && !node.computed) used.add(node.property.name);
    if (node.type === 'Property' && parent.type === 'ObjectPattern') used.add(node.key.name);
    if (node.type === 'ObjectExpression') objects.push(node);
  });
  const isUnused = ({ type, computed, key, value }) =>
    type === 'Property' && !computed && internal.test(key.name) && !used.has(key.name) && /^(?:Identifier|(?:Arrow)?FunctionExpression)$/.test(value.type);
  let isChanged = false;
  for (const { properties, start, end } of objects) {
    if (!properties.some(isUnused)) continue;
    isChanged = true;
    const kept = properties.filter((property) => !isUnused(property));
    edits.replace({ start, end }, `{${kept.map((property) => edits.of(property))}}`);
  }
  // Another function may have been used by one of these only.
  return isChanged ? withoutUnused(edits.of(tree), internal) : code;
}

/** Returns a class that has only a constructor, whose object takes the place of an instance. */
function knownClosureOf(name, members, edits) {
  return `class { constructor${closureOf(members, edits, [`__proto__: ${name}.prototype`])} }`;
}

/** Returns parameters and body of the function that takes the place of a class with these members. */
function closureOf(members, edits, properties = []) {
  for (const { type, static: isStatic, computed, kind } of members) {
    if (type === 'StaticBlock' || isStatic || (computed && kind !== 'method')) throw new Error('a class with static or computed members');
  }
  const construct = members.find(({ kind }) => kind === 'constructor')?.value;
  const { names, statements } = fieldsFrom(construct);
  const getters = new Set(members.filter((member) => member.kind === 'get' && isPrivate(member)).map(({ key }) => key.name));
  const methods = new Set(members.filter((member) => member.kind === 'method' && !isPrivate(member) && !member.computed).map(({ key }) => key.name));
  const called = new Set();

  const rewrite = (node, parent) => {
    if (isFunction(node) && !['MethodDefinition', 'Property'].includes(parent.type)) throw new Error('a function with a `this` of its own');
    if (node.type === 'ThisExpression') edits.replace(node, '$self');
    if (node.type !== 'MemberExpression' || node.object.type !== 'ThisExpression') return;
    const { name, type } = node.property;
    if (type === 'PrivateIdentifier') edits.replace(node, getters.has(name) ? `$${name}()` : `$${name}`);
    else if (methods.has(name)) edits.replace(node, `$_${called.add(name) && name}`);
  };
  for (const member of members) walk(member, rewrite, member);
  if (construct) renameParameters(construct, names, edits);

  const functions = [];
  const variables = [];
  for (const { type, kind, key, value, computed } of members.filter(({ kind }) => kind !== 'constructor')) {
    const name = computed ? `[${edits.of(key)}]` : key.name;
    if (type === 'PropertyDefinition') {
      if (!isPrivate({ key })) properties.push(...(value ? [`${name}: ${edits.of(value)}`] : []));
      else if (![...names.values()].includes(name)) variables.push(value ? `$${name} = ${edits.of(value)}` : `$${name}`);
      continue;
    }
    const [before, text] = [value.async ? 'async ' : '', `(${value.params.map((each) => edits.of(each))}) ${edits.of(value.body)}`];
    if (isPrivate({ key })) functions.push(`${before}function $${name}${text}`);
    else if (kind !== 'method') properties.push(`${kind} ${name}${text}`);
    else if (!called.has(name)) properties.push(`${before}${name}${text}`);
    else {
      functions.push(`${before}function $_${name}${text}`);
      properties.push(`${name}: $_${name}`);
    }
  }
  return `(${(construct?.params ?? []).map((each) => edits.of(each))}) {
    ${variables.length ? `let ${variables.join(', ')};` : ''}
    let $self = { ${properties.join(', ')} };
    ${statements.map((each) => edits.of(each)).join('\n')}
    return $self;
    ${functions.join('\n')}
  }`;
}

/**
 * Finds the statements `this.#field = parameter` of a constructor. Returns the fields by their
 * parameters, which need no other variable, and the remaining statements.
 */
function fieldsFrom(construct) {
  const parameters = (construct?.params ?? []).map((each) => each.left ?? each).map(({ name }) => name);
  const names = new Map();
  const statements = (construct?.body.body ?? []).filter(({ expression }) => {
    const { left, right } = expression ?? {};
    const isField = left?.property?.type === 'PrivateIdentifier' && right.type === 'Identifier' && parameters.includes(right.name) && !names.has(right.name);
    if (isField) names.set(right.name, left.property.name);
    return !isField;
  });
  return { names, statements };
}

/** Gives parameters the names of the fields that they initialize, and lets `return` return the object. */
function renameParameters(construct, names, edits) {
  walk(construct, (node, parent) => {
    if (node.type === 'ArrowFunctionExpression') {
      // A parameter of its own may have the same name.
      walk(node, (inner) => {
        if (inner.type === 'Identifier' && node.params.some((each) => each.name === inner.name) && names.has(inner.name)) throw new Error(`${inner.name} is shadowed`);
      });
    }
    if (node.type === 'ReturnStatement' && !node.argument) edits.replace(node, 'return $self;');
    if (node.type !== 'Identifier' || !names.has(node.name)) return;
    const text = `$${names.get(node.name)}`;
    const isName = (parent.type === 'MemberExpression' && parent.property === node && !parent.computed) || (parent.type === 'Property' && !parent.shorthand && parent.key === node);
    if (parent.type === 'Property' && parent.shorthand) edits.replace(parent, `${node.name}: ${text}`);
    else if (!isName) edits.replace(node, text);
  });
}
