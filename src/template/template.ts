// Renders chat templates outside this process, with limits: a template comes with a checkpoint that was
// downloaded, and a loop in it would hold the event loop, and with it every stream, for ever.
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { LockstepError } from '../errors.ts';
import { builtModule } from '../paths.ts';
import { keepSpare, takeSpare } from './spare.ts';
import type { TemplateAnswer, TemplateRequest } from './template-process.ts';

export interface TemplateLimits {
  /** Most time of one rendering, in milliseconds. */
  milliseconds: number;
  /** Most characters of what it writes. */
  characters: number;
  /** Most memory of its process, in MiB: Python's, and beside it JavaScript's heap. */
  mebibytes: number;
  /** Most renderings that wait. */
  waiting: number;
}

export const templateLimits: TemplateLimits = {
  milliseconds: 10_000,
  characters: 1 << 25,
  mebibytes: 512,
  waiting: 64,
};

/** Most characters of a template itself: the longest in use have some 20,000. */
const longestTemplate = 1 << 20;
/** Most time until a process has started Python, in milliseconds: some two seconds, more under load. */
const startTime = 120_000;
/** Renderings at the same time: one that takes its whole time does not hold up all others. */
const processes = 2;

interface Job {
  request: TemplateRequest;
  resolve: (text: string) => void;
  reject: (error: unknown) => void;
}

/** What a template itself says against the messages, or where it fails for them. */
export class TemplateRefusal extends Error {}

export class TemplateRenderer {
  readonly #source: string;
  readonly #file: string;
  readonly #limits: TemplateLimits;
  readonly #idle: ChildProcess[] = [];
  readonly #running = new Set<ChildProcess>();
  /** What is done when a process of this renderer ends by itself. */
  readonly #onExit = new Map<ChildProcess, () => void>();
  readonly #queue: Job[] = [];
  #active = 0;
  #closed = false;

  /**
   * @param file where the template is from, for what people are told
   * @throws LS_TEMPLATE_LIMIT for a template that is too long itself
   */
  constructor(source: string, file: string, limits: Partial<TemplateLimits> = {}) {
    this.#source = source;
    this.#file = file;
    this.#limits = { ...templateLimits, ...limits };
    if (source.length > longestTemplate) {
      const got = `${source.length} characters`;
      throw this.#over(`a template of at most ${longestTemplate} characters`, got);
    }
  }

  /** Process ids of what runs or waits for work. */
  get pids(): number[] {
    return [...this.#idle, ...this.#running].flatMap((child) => child.pid ?? []);
  }

  /**
   * See that the template can be read at all.
   *
   * @throws LS_TEMPLATE_SYNTAX, LS_TEMPLATE_LIMIT
   */
  async check(): Promise<void> {
    const child = await this.#take();
    this.#release(child);
  }

  /**
   * @param context what the template is given (context.ts)
   * @param body the request that it is from, as it came: `tools` and `chat_template_kwargs` are read
   *   from it, for JavaScript's numbers are not Python's
   * @throws TemplateRefusal with the template's own words, or with its file and the line that fails;
   *   LS_TEMPLATE_LIMIT (time, memory, length of what it writes, renderings that wait);
   *   LS_TEMPLATE_SYNTAX
   */
  render(context: object, body?: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const { waiting } = this.#limits;
      if (this.#queue.length >= waiting) {
        reject(
          this.#over(`at most ${waiting} conversations that wait for the template`, 'one more'),
        );
        return;
      }
      const given = JSON.stringify(context);
      const request = body === undefined ? { context: given } : { context: given, body };
      this.#queue.push({ request, resolve, reject });
      this.#next();
    });
  }

  /** End its processes, but one that may be a spare for seconds; what waits is refused. Idempotent. */
  close(): void {
    this.#closed = true;
    const gone = new LockstepError(
      'LS_TEMPLATE_CLOSED',
      'expected an open server, got a closed one',
      { fix: 'Start the server again.' },
    );
    for (const job of this.#queue.splice(0)) job.reject(gone);
    const [first, ...others] = this.#idle.splice(0);
    for (const child of [...others, ...this.#running]) child.kill('SIGKILL');
    if (first !== undefined) this.#leave(first);
  }

  /** Keep an idle process for the next time that this template is opened. */
  #leave(child: ChildProcess): void {
    if (!keepSpare(this.#key, child)) {
      child.kill('SIGKILL');
      return;
    }
    child.off('exit', this.#onExit.get(child) as () => void);
    this.#onExit.delete(child);
  }

  /** What a process of this renderer was started with. */
  get #key(): string {
    const { characters, mebibytes } = this.#limits;
    return JSON.stringify([characters, mebibytes, process.env['TZ'] ?? null, this.#source]);
  }

  #next(): void {
    if (this.#active >= processes) return;
    const job = this.#queue.shift();
    if (job === undefined) return;
    this.#active += 1;
    void this.#run(job)
      .then(job.resolve, job.reject)
      .finally(() => {
        this.#active -= 1;
        this.#next();
      });
  }

  async #run(job: Job): Promise<string> {
    const child = await this.#take();
    const answer = await this.#ask(child, job.request);
    if (answer.kind === 'deep') this.#end(child);
    else this.#release(child);
    if (answer.kind === 'text') return answer.text;
    if (answer.kind === 'long') {
      const { characters } = this.#limits;
      throw this.#over(`at most ${characters} characters from the template`, answer.length);
    }
    if (answer.kind === 'refused') throw new TemplateRefusal(this.#reason(answer));
    if (answer.kind === 'deep') {
      throw new TemplateRefusal(`RecursionError: too deep a nesting (${this.#file})`);
    }
    throw this.#memory();
  }

  /** A process that has read the template. */
  async #take(): Promise<ChildProcess> {
    const idle = this.#idle.pop();
    if (idle !== undefined) {
      this.#running.add(idle);
      return idle;
    }
    const spare = takeSpare(this.#key);
    if (spare !== undefined) {
      this.#own(spare);
      return spare;
    }
    const { characters, mebibytes } = this.#limits;
    const { TZ } = process.env;
    const args = [mebibytes, characters].map(String);
    const child = fork(fileURLToPath(builtModule('template/template-process.js')), args, {
      // Nothing of the server's, its secrets least of all, but what the time is; nor its loaders and flags.
      env: TZ === undefined ? {} : { TZ },
      execArgv: [`--max-old-space-size=${mebibytes}`],
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    // Between questions it does not keep this process alive.
    child.unref();
    child.channel?.unref();
    child.on('error', () => {});
    this.#own(child);
    await this.#ask(child, null, startTime);
    const answer = await this.#ask(child, { source: this.#source });
    if (answer.kind === 'ready') return child;
    this.#end(child);
    if (answer.kind === 'memory') throw this.#memory();
    const reason =
      answer.kind === 'refused' ? this.#reason(answer) : `too deep a nesting (${this.#file})`;
    throw new LockstepError(
      'LS_TEMPLATE_SYNTAX',
      `expected a chat template that Jinja2 can read, got: ${reason}`,
      { fix: 'Copy the chat template again from the original checkpoint.' },
    );
  }

  /** A process that runs for this renderer from now on. */
  #own(child: ChildProcess): void {
    const left = (): void => {
      this.#onExit.delete(child);
      this.#running.delete(child);
      const at = this.#idle.indexOf(child);
      if (at !== -1) this.#idle.splice(at, 1);
    };
    this.#onExit.set(child, left);
    child.once('exit', left);
    this.#running.add(child);
  }

  #end(child: ChildProcess): void {
    this.#running.delete(child);
    child.kill('SIGKILL');
  }

  #release(child: ChildProcess): void {
    if (!this.#running.delete(child)) return;
    if (this.#closed) child.kill('SIGKILL');
    else this.#idle.push(child);
  }

  /** @param request null: it says by itself that it has started */
  #ask(
    child: ChildProcess,
    request: TemplateRequest | null,
    milliseconds = this.#limits.milliseconds,
  ): Promise<TemplateAnswer> {
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        child.off('message', answered).off('exit', ended).off('error', failed);
        child.channel?.unref();
      };
      const answered = (answer: unknown): void => {
        settle();
        resolve(answer as TemplateAnswer);
      };
      const ended = (): void => {
        settle();
        reject(
          this.#closed
            ? new LockstepError('LS_TEMPLATE_CLOSED', 'expected an open server, got a closed one')
            : this.#memory(),
        );
      };
      const failed = (cause: Error): void => {
        settle();
        const expected = 'expected to start the process of the chat template';
        const fix = 'Let this user start another process.';
        reject(
          new LockstepError('LS_TEMPLATE_START', `${expected}, got: ${cause.message}`, {
            fix,
            cause,
          }),
        );
      };
      const timer = setTimeout(() => {
        settle();
        this.#end(child);
        reject(this.#over(`a result within ${milliseconds / 1000} s`, 'none'));
      }, milliseconds);
      child.on('message', answered).on('exit', ended).on('error', failed);
      child.channel?.ref();
      if (request === null) return;
      child.send(request, (error) => {
        if (error !== null && child.exitCode === null && child.signalCode === null) failed(error);
      });
    });
  }

  /** With the place where the fault is the template's, not the conversation's. */
  #reason({ reason, line }: Extract<TemplateAnswer, { kind: 'refused' }>): string {
    return line === null ? reason : `${reason} (${this.#file}, line ${line})`;
  }

  #memory(): LockstepError {
    return this.#over(`at most ${this.#limits.mebibytes} MiB of memory for the template`, 'more');
  }

  #over(expected: string, got: unknown): LockstepError {
    return new LockstepError(
      'LS_TEMPLATE_LIMIT',
      `expected ${expected}, got ${got} (${this.#file})`,
      {
        fix: 'Send fewer or shorter messages; if no message works, the chat template is broken.',
      },
    );
  }
}
