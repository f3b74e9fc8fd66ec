#!/usr/bin/env node
// The `lockstep` command, as a process.
import { setFlagsFromString } from 'node:v8';
import { silenceTelemetry } from '../bridge/environment.ts';
import { tellWhatTakesLong } from '../contract/time-limit.ts';
import { asksHelp, asksJson, commandOf, run } from './run.ts';
import { endedEarly, watchOutput } from './shared/closed-output.ts';
import { exitCodes, printError, printJsonError } from './shared/output.ts';

const args = process.argv.slice(2);
let ended = false;
watchOutput(asksHelp(args) ? undefined : commandOf(args), () => {
  ended = true;
});
// A promise that never settles ends Node with 13 and without a word; process.exit(0) of a config with 0.
process.once('exit', (code) => {
  if (ended || (code !== exitCodes.ok && code !== 13)) return;
  if (asksJson(args)) printJsonError(endedEarly());
  process.exitCode = printError(endedEarly());
});

// The policy engine is WebAssembly. To optimize its code pays from some 100,000 tokens on, and most commands plan
// a few thousand: V8 is to wait that long.
setFlagsFromString('--wasm-tiering-budget=1000000000');
silenceTelemetry();
tellWhatTakesLong();
const code = await run(args);
ended = true;
// A command may already have set a code of its own.
if (code !== exitCodes.ok) process.exitCode = code;
const last = process.exitCode;
// What a config began may end the process with another code.
process.once('exit', () => {
  process.exitCode ||= last;
});
