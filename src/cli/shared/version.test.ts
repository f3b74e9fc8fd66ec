import { expect, test, vi } from 'vitest';

vi.mock('../commands.ts', () => {
  const load = () => {
    throw new Error('loaded');
  };
  return { commands: { plan: load, serve: load }, groupOf: () => undefined };
});

test.each([[['--version']], [['-v']], [['--no-color', '-v']]])(
  '%j loads no command',
  async (args) => {
    const { run } = await import('../run.ts');
    const written = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
    try {
      expect(await run(args)).toBe(0);
      expect(written.mock.calls.join('')).toMatch(/^\d+\.\d+\.\d+\n$/);
    } finally {
      written.mockRestore();
    }
  },
);
