// The application's server, which runs beside Vite's during development.
const server = process.env.SERVER ?? 'http://127.0.0.1:3000';

export default {
  server: {
    proxy: {
      '/ticket': server,
      '/stillhere': { target: server, ws: true },
    },
  },
};
