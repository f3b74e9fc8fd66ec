// Checkpoints that a config could start from.
import path from 'node:path';
import { contractFile } from '../../checkpoint/index.ts';
import type { Folder } from './folders.ts';

/** Folders with a checkpoint that has no contract yet. */
export function modelsIn(folders: readonly Folder[]): string[] {
  return folders.filter(isModel).map((folder) => folder.path);
}

function isModel({ files }: Folder): boolean {
  return (
    files.includes('config.json') &&
    files.includes('tokenizer.json') &&
    files.some((name) => name.endsWith('.safetensors')) &&
    !files.includes(contractFile)
  );
}

/** `runs/NAME`, after what is trained. */
export function outFor(model: string): string {
  return path.posix.join('runs', path.basename(model));
}
