// What the scripts share. Node 20 and nothing else: these run before `npm ci` has.
import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));
export const at = (...parts) => join(root, ...parts);
const colour = process.stdout.isTTY && !process.env.NO_COLOR;
const paint = (code, text) => (colour ? `\x1b[${code}m${text}\x1b[0m` : text);

export const say = (text) => console.log(`${paint('36', '·')} ${text}`);
export const good = (text) => console.log(`${paint('32', '✓')} ${text}`);
export const heading = (text) => console.log(`\n${paint('1', `── ${text} ${'─'.repeat(Math.max(4, 70 - text.length))}`)}`);

/** Something the reader can mend: printed as one line, without a stack. */
export class Trouble extends Error {}

/** Runs `main` and turns a {@link Trouble} into one line and exit code 1. */
export async function entry(main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    console.error(`${paint('31', '✗')} ${error.message}`);
    process.exit(1);
  }
}

const path = [at('target/tools/bin'), join(process.env.HOME ?? '', '.cargo/bin'), process.env.PATH].join(delimiter);

/** The environment every tool is started in: tools of this clone first, then cargo's own. */
export const environment = { ...process.env, PATH: path, CARGO_TERM_COLOR: colour ? 'always' : 'never' };

/** Where a program is, or undefined. */
export function which(name) {
  for (const folder of path.split(delimiter)) {
    const file = join(folder, process.platform === 'win32' ? `${name}.exe` : name);
    try {
      accessSync(file, constants.X_OK);
      if (statSync(file).isFile()) return file;
    } catch { /* not here */ }
  }
  return undefined;
}

/** Runs a program with its output passed through. Resolves to its exit code. */
export function status(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: 'inherit', ...options, env: { ...environment, ...options.env } });
    child.on('error', (e) => reject(new Trouble(`${command} could not be started: ${e.message}`)));
    child.on('exit', (code, signal) => resolve(signal ? 1 : code));
  });
}

/** Runs a program; fails unless it ends with 0. */
export async function run(command, args, options) {
  const code = await status(command, args, options);
  if (code !== 0) throw new Trouble(`${command.split('/').pop()} ${args.slice(0, 3).join(' ')} … failed with code ${code}; its output is above`);
}

/** The output of a program, or undefined if it is missing or fails. */
export function output(command, args) {
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8', env: environment });
  return result.status === 0 ? result.stdout.trim() : undefined;
}

/** The version of a crate in Cargo.lock. */
export function locked(crate) {
  const found = readFileSync(at('Cargo.lock'), 'utf8').match(new RegExp(`name = "${crate}"\\nversion = "([^"]+)"`));
  if (!found) throw new Trouble(`${crate} is not in Cargo.lock; restore that file with git checkout Cargo.lock`);
  return found[1];
}

/** The newest change among files and folders, in milliseconds since the epoch; 0 if none is there. */
export function newest(...names) {
  let time = 0;
  for (const name of names) {
    const full = at(name);
    if (!existsSync(full)) continue;
    const info = statSync(full);
    if (info.isDirectory()) for (const inner of readdirSync(full)) time = Math.max(time, newest(join(name, inner)));
    else time = Math.max(time, info.mtimeMs);
  }
  return time;
}

/** Whether every output is there and newer than every input. */
export function fresh(inputs, outputs) {
  if (!outputs.every((name) => existsSync(at(name)))) return false;
  return Math.min(...outputs.map((name) => statSync(at(name)).mtimeMs)) >= newest(...inputs);
}

/** The Chromium to test with, or undefined. */
export function chromium() {
  return process.env.CHROMIUM || which('chromium') || which('chromium-browser') || which('google-chrome') || which('google-chrome-stable');
}
