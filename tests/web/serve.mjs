// A static web server on loopback. Started by itself, `node serve.mjs FOLDER [EXTRA]`, it prints its address: so a browser on a machine of
// its own finds the page on that machine, where a browser takes it for a secure one.
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.wasm': 'application/wasm' };

/** Serves a folder; `extra` maps further paths to texts of HTML. Gives the server and its base address, with a slash at the end. */
export async function listen(folder, extra = {}) {
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url, 'http://x').pathname);
    const name = path.endsWith('/') ? `${path}index.html` : path;
    try {
      const body = extra[path] ?? (await readFile(join(folder, name)));
      response.writeHead(200, { 'content-type': extra[path] ? 'text/html' : (TYPES[extname(name)] ?? 'application/octet-stream') }).end(body);
    } catch {
      response.writeHead(path === '/favicon.ico' ? 204 : 404).end();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, base: `http://127.0.0.1:${server.address().port}/` };
}

if (process.argv[1] === import.meta.filename) console.log((await listen(process.argv[2], JSON.parse(process.argv[3] ?? '{}'))).base);
