// lockstep doctor: what is installed, what is missing, and the command that fixes it.
import { Command } from 'commander';
import { exitCodes, type Paint, paint, type Screen } from '../shared/output.ts';
import { type Check, type Diagnosis, diagnose } from './checks.ts';

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('show what is installed, what is missing and how to fix it')
    .option('--python <path>', 'Python interpreter to check')
    .option('--json', 'print one JSON object')
    .action(async (options: { python?: string; json?: true }) => {
      const diagnosis = await diagnose(options.python);
      process.stdout.write(
        options.json ? `${JSON.stringify(diagnosis)}\n` : show(diagnosis, process.stdout),
      );
      if (!diagnosis.ok) process.exitCode = exitCodes.failed;
    });
}

function show(diagnosis: Diagnosis, screen: Screen): string {
  const colors = paint(screen);
  const width = Math.max(...diagnosis.checks.map((check) => check.name.length));
  const lines = diagnosis.checks.flatMap((check) => {
    const line = `${mark(check, colors)} ${check.name.padEnd(width)}  ${check.detail}`;
    return check.fix === undefined
      ? [line]
      : [line, `  ${' '.repeat(width)}  ${colors.cyan(check.fix)}`];
  });
  const passed = diagnosis.python?.tried.filter((attempt) => attempt.problem !== null) ?? [];
  for (const { source, problem } of passed)
    lines.push(colors.dim(`  not used, ${source}: ${problem}`));
  const missing = diagnosis.checks.filter((check) => check.status === 'missing');
  lines.push(
    '',
    missing.length === 0
      ? colors.green('everything that is needed is installed')
      : `${colors.red(`missing: ${missing.map((check) => check.name).join(', ')}`)}`,
  );
  return `${lines.join('\n')}\n`;
}

function mark({ status }: Check, colors: Paint): string {
  if (status === 'ok') return colors.green('✓');
  if (status === 'missing') return colors.red('✗');
  return colors.yellow(status === 'warning' ? '!' : '-');
}
