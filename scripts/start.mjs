// `npm start`: tools, build, then `peerage up` with the arguments given.
import { spawn } from 'node:child_process';
import { at, entry, environment, heading, Trouble } from './lib.mjs';
import { setup } from './setup.mjs';
import { build } from './build.mjs';

await entry(async () => {
  await setup();
  await build();
  heading('peerage up');
  const child = spawn(at('target/release/peerage'), ['up', ...process.argv.slice(2)], { stdio: 'inherit', env: environment });
  // A terminal's Ctrl-C reaches the child by itself; it alone decides when to stop.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => { if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal); });
  }
  const code = await new Promise((resolve, reject) => {
    child.on('error', (error) => reject(new Trouble(`the binary could not be started: ${error.message}`)));
    child.on('exit', (code, signal) => resolve(signal ? 1 : code));
  });
  process.exit(code);
});
