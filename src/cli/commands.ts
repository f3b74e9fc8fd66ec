// The commands of `lockstep`, by name.
import type { Command } from 'commander';

// Loaded when named, so that `lockstep plan` does not wait for onnxruntime.
export const commands: Readonly<Record<string, () => Promise<Command>>> = {
  attach: async () => (await import('./attach.ts')).attachCommand(),
  completion: async () => (await import('./completion/command.ts')).completionCommand(commands),
  detach: async () => (await import('./detach.ts')).detachCommand(),
  doctor: async () => (await import('./doctor/command.ts')).doctorCommand(),
  eval: async () => (await import('./eval/command.ts')).evalCommand(),
  export: async () => (await import('./export.ts')).exportCommand(),
  init: async () => (await import('./init/command.ts')).initCommand(),
  keys: async () => (await import('./keys.ts')).keysCommand(),
  perplexity: async () => (await import('./perplexity.ts')).perplexityCommand(),
  plan: async () => (await import('./plan/command.ts')).planCommand(),
  probe: async () => (await import('./probe.ts')).probeCommand(),
  profile: async () => (await import('./profile/command.ts')).profileCommand(),
  quickstart: async () => (await import('./quickstart/command.ts')).quickstartCommand(),
  recall: async () => (await import('./recall/command.ts')).recallCommand(),
  report: async () => (await import('./report/command.ts')).reportCommand(),
  serve: async () => (await import('./serve/command.ts')).serveCommand(),
  train: async () => (await import('./train/command.ts')).trainCommand(),
  verify: async () => (await import('./verify/command.ts')).verifyCommand(),
};
