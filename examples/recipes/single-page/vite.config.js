// The server of the application, beside Vite's own while you develop.
const server = process.env.SERVER ?? 'http://127.0.0.1:3000';

export default {
  server: {
    proxy: {
      '/ticket': server,
      '/stillhere': { target: server, ws: true },
    },
  },
};
