// The last lines that a process printed, kept to explain its death.

/** A ring buffer of lines; partial lines are completed by the next chunk. */
export class LineTail {
  readonly #limit: number;
  readonly #onLine: ((line: string) => void) | undefined;
  #lines: string[] = [];
  #partial = '';

  constructor(limit: number, onLine?: (line: string) => void) {
    this.#limit = limit;
    this.#onLine = onLine;
  }

  push(chunk: string): void {
    const parts = (this.#partial + chunk).split('\n');
    // A process that prints without newlines must not grow the buffer for ever.
    this.#partial = (parts.pop() ?? '').slice(-8192);
    for (const line of parts) this.#add(line);
  }

  end(): void {
    if (this.#partial !== '') this.#add(this.#partial);
    this.#partial = '';
  }

  lines(): string[] {
    return [...this.#lines];
  }

  #add(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > this.#limit) this.#lines.shift();
    this.#onLine?.(line);
  }
}
