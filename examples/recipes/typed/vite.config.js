import { join } from 'node:path';

import { svelte } from '@sveltejs/vite-plugin-svelte';

// The application's server, which runs beside Vite's during development.
const server = process.env.SERVER ?? 'http://127.0.0.1:3000';

const pages = ['react.html', 'svelte.html'].map((page) => join(import.meta.dirname, page));

export default {
  plugins: [svelte()],
  // One React, although the hooks come from another package.
  resolve: { dedupe: ['react'] },
  build: { target: 'es2022', rollupOptions: { input: pages } },
  server: {
    proxy: {
      '/typed/ticket': server,
      '/stillhere': { target: server, ws: true },
    },
  },
};
