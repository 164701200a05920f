// Builds dist/ from src/: the modules of the package, the files that the server gives to pages, a
// .gz beside each, and the type declarations. dist/ is committed and CI compares it byte by byte,
// so nothing here may depend on the machine or the clock.

import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

// Zopfli saves 3% over the best of zlib. As WebAssembly it also gives the same bytes on each
// machine, which Node's own zlib does not.
import { gzipAsync as gzip } from '@gfx/zopfli';
import { build, transform } from 'esbuild';
import { minify } from 'terser';

import { closuresOf, withoutUnused } from './closures.mjs';

const root = import.meta.dirname;
const dist = join(root, 'dist');
const TARGET = 'es2022';

/**
 * Members of the client's own objects, whose names are shortened, even if the browser's objects
 * have members of the same name. Neither a page, an object of the browser's that the client uses, a
 * ticket, the storage nor another copy of the client on the page may know them by name.
 */
const CLIENT =
  'access ackAt acknowledge acknowledged admit advance backoffCap begin bufferedCharge bytes charge ' +
  'choose chosen compressed credit current deadline declines deliver delivery direct epoch fail ' +
  'failInflate fallBack flags flush forget forgive free giveUp handler heardAt heartbeat held hindrance hold ' +
  'holdPosts inboxCharge inboxes incarnation isAnswered isDue isFailing isLast isLater isPossible ' +
  'isProven isThere keep last lastBytes lastLife leave load loop lose lostAt machine messages ' +
  'most move nextTrial nonce obtain outboxes parts patience payload peek phase present ' +
  'presented probe probedUntil received recut release reset restAt restart rewind roundTrip save ' +
  'sequence settle shortLives standBy start stop succeed tail take takeTrial takeWait tell ' +
  'ticket tolerance total tryAt tryBetter unacknowledgedMessages wait waits wake watch written';
/** The same of the layer's objects. The fields of a unit keep their names, which are data. */
const LAYER =
  'abandon accepted adopt arrays bytes content controller drop environment failed flush formats ' +
  'insist label messagePack methods more options position publish put receive refuse release report ' +
  'reset resume run sendNewest stop take tell waiting';
/** Names of `CLIENT` that pages, servers or the browser know as members of what the layer uses. */
const KNOWN = ['credit', 'last', 'leave', 'present', 'watch', 'written'];
/** The internal members of files that contain the client and the layer. */
const BOTH = `${CLIENT} ${LAYER}`.split(' ').filter((name) => !KNOWN.includes(name)).join(' ');

const membersOf = (names) => new RegExp(`^(?:(?:handle|poll|meet)[A-Z]|(?:${names.replaceAll(' ', '|')})$)`);

/**
 * The files. In those with `classes`, classes become functions, and pages may know only these by
 * name.
 */
const bundles = [
  { entry: 'src/index.ts', file: 'stillhere.mjs', format: 'esm', internal: membersOf(CLIENT), classes: [] },
  { entry: 'src/slim.ts', file: 'slim.mjs', format: 'esm', internal: membersOf(CLIENT), classes: [] },
  { entry: 'src/global.ts', file: 'stillhere.js', format: 'iife', internal: membersOf(CLIENT), classes: [] },
  { entry: 'src/app/index.ts', file: 'app.mjs', format: 'esm', internal: membersOf(LAYER), classes: ['AppSession'], external: true },
  // The client and the layer in one, which a server gives to pages that use the layer.
  { entry: 'src/app/global.ts', file: 'stillhere-app.js', format: 'iife', internal: membersOf(BOTH), classes: ['AppSession'] },
  { entry: 'src/app/module.ts', file: 'stillhere-app.mjs', format: 'esm', internal: membersOf(BOTH), classes: ['AppSession'] },
  { entry: 'src/app/slim.ts', file: 'slim-app.mjs', format: 'esm', internal: membersOf(BOTH), classes: ['AppSession'] },
  { entry: 'src/react/index.ts', file: 'react.mjs', format: 'esm', external: true },
  { entry: 'src/svelte/index.ts', file: 'svelte.mjs', format: 'esm' },
  { entry: 'src/badge/index.ts', file: 'badge.mjs', format: 'esm' },
];

/** Lets a bundle import the other built files, so that a page has one copy of each. */
const builtFilesAreExternal = {
  name: 'built files are external',
  setup({ onResolve }) {
    onResolve({ filter: /^\.\.\/index$/ }, () => ({ path: './stillhere.mjs', external: true }));
    onResolve({ filter: /^\.\.\/app\/index$/ }, () => ({ path: './app.mjs', external: true }));
    onResolve({ filter: /^react$/ }, () => ({ external: true }));
  },
};

/**
 * Options of Terser, which applies optimizations that esbuild lacks. They are safe because no
 * getter has a side effect, and no function is called with `new`.
 */
const compress = { passes: 3, pure_getters: true, unsafe_arrows: true };

/** Turns classes into functions, and removes what is then unused. */
async function shortened(text, classes, internal) {
  let { code } = await transform(closuresOf(text, classes), { format: 'esm', target: TARGET, minify: true });
  for (let before = ''; before !== code; ) {
    before = code;
    const { code: shorter } = await minify(code, { module: true, ecma: 2022, compress, mangle: false });
    code = withoutUnused(shorter, internal);
  }
  return code;
}

/**
 * Bundles one entry point. Returns the script's bytes, and each module's share of them before the
 * last step.
 */
async function bundle({ entry, file, format, internal, classes, external }) {
  const result = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile: `dist/${file}`,
    bundle: true,
    format,
    target: TARGET,
    platform: 'browser',
    define: { SLIM: String(file.startsWith('slim')) },
    minify: !classes,
    legalComments: 'none',
    logLevel: 'warning',
    metafile: true,
    plugins: external ? [builtFilesAreExternal] : [],
    write: false,
  });
  const [output] = Object.values(result.metafile.outputs);
  const modules = Object.entries(output.inputs).map(([path, { bytesInOutput }]) => [path, bytesInOutput]);
  const { text } = result.outputFiles[0];
  const { code } = await minify(classes ? await shortened(text, classes, internal) : text, {
    module: format === 'esm',
    ecma: 2022,
    compress,
    mangle: internal ? { properties: { regex: internal, builtins: true } } : {},
  });
  const script = new TextEncoder().encode(code);
  return { file, script, gzipped: await gzip(script, { numiterations: 15 }), modules };
}

function declareTypes(outDir) {
  const tsc = fileURLToPath(import.meta.resolve('typescript/package.json')).replace(/package\.json$/, 'bin/tsc');
  execFileSync(process.execPath, [tsc, '--project', root, '--outDir', outDir], { stdio: 'inherit' });
}

function report({ file, script, gzipped, modules }) {
  console.log(`${file}  ${script.length} bytes, ${gzipped.length} gzipped`);
  for (const [path, bytes] of modules.sort(([, a], [, b]) => b - a)) {
    console.log(`  ${String(bytes).padStart(7)}  ${basename(path)}`);
  }
}

// All files are built before dist/ is changed, so a failed build leaves the previous one in place.
const types = mkdtempSync(join(tmpdir(), 'stillhere-types-'));
try {
  const scripts = await Promise.all(bundles.map(bundle));
  declareTypes(types);

  rmSync(dist, { recursive: true, force: true });
  mkdirSync(dist);
  cpSync(types, join(dist, 'types'), { recursive: true });
  for (const { file, script, gzipped } of scripts) {
    writeFileSync(join(dist, file), script);
    writeFileSync(join(dist, `${file}.gz`), gzipped);
  }
  scripts.forEach(report);
} finally {
  rmSync(types, { recursive: true, force: true });
}
