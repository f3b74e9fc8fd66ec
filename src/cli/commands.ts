// The commands of `lockstep`, by name, in the order in which the help shows them.
import type { Command } from 'commander';

/** Headings of the help, each with its commands; a heading appears before its first command in this list. */
const groups: Readonly<Record<string, readonly string[]>> = {
  'Set up:': ['init', 'doctor', 'quickstart', 'completion'],
  'Train:': ['plan', 'profile', 'train', 'attach', 'detach'],
  'Check and measure:': ['verify', 'probe', 'perplexity', 'eval', 'recall', 'report'],
  'Serve:': ['export', 'serve', 'keys'],
};

/** The heading under which the help shows a command. */
export function groupOf(name: string): string | undefined {
  return Object.keys(groups).find((heading) => groups[heading]?.includes(name));
}

// Loaded when named, so that `lockstep plan` does not wait for onnxruntime.
export const commands: Readonly<Record<string, () => Promise<Command>>> = {
  init: async () => (await import('./init/command.ts')).initCommand(),
  doctor: async () => (await import('./doctor/command.ts')).doctorCommand(),
  quickstart: async () => (await import('./quickstart/command.ts')).quickstartCommand(),
  completion: async () => (await import('./completion/command.ts')).completionCommand(commands),
  plan: async () => (await import('./plan/command.ts')).planCommand(),
  profile: async () => (await import('./profile/command.ts')).profileCommand(),
  train: async () => (await import('./train/command.ts')).trainCommand(),
  attach: async () => (await import('./attach.ts')).attachCommand(),
  detach: async () => (await import('./detach.ts')).detachCommand(),
  verify: async () => (await import('./verify/command.ts')).verifyCommand(),
  probe: async () => (await import('./probe.ts')).probeCommand(),
  perplexity: async () => (await import('./perplexity.ts')).perplexityCommand(),
  eval: async () => (await import('./eval/command.ts')).evalCommand(),
  recall: async () => (await import('./recall/command.ts')).recallCommand(),
  report: async () => (await import('./report/command.ts')).reportCommand(),
  export: async () => (await import('./export.ts')).exportCommand(),
  serve: async () => (await import('./serve/command.ts')).serveCommand(),
  keys: async () => (await import('./keys.ts')).keysCommand(),
};
