#!/usr/bin/env node
// The `lockstep` command, as a process.
import { silenceTelemetry } from '../bridge/environment.ts';
import { run } from './run.ts';
import { exitCodes } from './shared/output.ts';

// `lockstep plan ... | head` closes the pipe early; that is no failure of the plan.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(exitCodes.ok);
  throw error;
});

silenceTelemetry();
const code = await run(process.argv.slice(2));
// A command may already have set a code of its own.
if (code !== exitCodes.ok) process.exitCode = code;
