// The models of a running `lockstep serve`: opened at the start, added, replaced and removed later.
import { LockstepError } from '../../errors.ts';
import type { Listed, LockstepServer } from '../../server/index.ts';
import { printWarning } from '../shared/output.ts';
import {
  type ModelEntry,
  type OpenedModel,
  openEntry,
  type StartContext,
  stateOf,
} from './entry.ts';
import { atLocation } from './from-file.ts';

interface Member {
  entry: ModelEntry;
  /** Of the entry and its folder, when it was opened. */
  state: string;
  opened: OpenedModel;
  /** Its engine can serve nothing any more. */
  lost: boolean;
}

/** Names of models, by what became of them. */
export interface Change {
  models: string[];
  added: string[];
  replaced: string[];
  removed: string[];
}

export class Fleet {
  #members: Member[] = [];
  #server: LockstepServer | null = null;
  /** What `replace` does now. */
  #turn: Promise<unknown> = Promise.resolve();
  #leaving = new Set<Promise<void>>();
  #ended = false;
  #lose: (error: LockstepError) => void = () => {};
  /** Settles with the reason when no model can be served any more. */
  readonly lost = new Promise<LockstepError>((resolve) => {
    this.#lose = resolve;
  });
  readonly #context: StartContext;
  readonly #exitWhenLost: boolean;

  /** @param exitWhenLost whether a model whose onnx or torch engine has ended counts as one that cannot be served */
  constructor(context: StartContext, exitWhenLost = false) {
    this.#context = context;
    this.#exitWhenLost = exitWhenLost;
  }

  /** Open the first models. @throws what keeps one of them from opening; `close` frees the others */
  async open(entries: readonly ModelEntry[]): Promise<void> {
    for (const entry of entries) this.#members.push(await this.#open(entry));
  }

  get opened(): readonly OpenedModel[] {
    return this.#members.map(({ opened }) => opened);
  }

  /** Models as the server takes them. */
  get parts() {
    return this.#members.map(({ entry, opened }) => ({ ...opened.parts, aliases: entry.aliases }));
  }

  /** They are this server's from now on, in the same order. */
  follow(server: LockstepServer): void {
    this.#server = server;
  }

  /**
   * Serve these models: open what is new or other than before, list all at once, let the rest finish.
   *
   * @param say what became of a model that was left out
   * @throws what keeps a model from opening; everything is as it was then
   */
  replace(entries: readonly ModelEntry[], say: (line: string) => void): Promise<Change> {
    const done = this.#replace(entries, say);
    this.#turn = done.catch(() => {});
    return done;
  }

  /** Free all of them, with their server where there is one. */
  async close(): Promise<void> {
    this.#ended = true;
    const closed = this.#server?.close();
    await this.#turn;
    await closed;
    await Promise.all(this.#leaving);
    if (this.#server !== null) return;
    await Promise.all(this.#members.map(({ opened }) => opened.parts.engine.close()));
  }

  async #replace(entries: readonly ModelEntry[], say: (line: string) => void): Promise<Change> {
    const server = this.#server;
    if (server === null) throw new Error('a fleet without a server');
    const before = new Map(server.models.map((listed, i) => [this.#members[i] as Member, listed]));
    const next: { member: Member; entry: ModelEntry; listed: Listed }[] = [];
    const fresh: Listed[] = [];
    const change: Change = {
      models: entries.map(({ name }) => name),
      added: [],
      replaced: [],
      removed: [],
    };
    try {
      for (const entry of entries) {
        const old = this.#members.find((one) => one.entry.name === entry.name);
        const kept = old !== undefined && before.get(old);
        if (kept && (await this.#same(old, kept, entry))) {
          const { aliases } = entry;
          next.push({ member: old, entry, listed: { model: kept.model, aliases } });
          continue;
        }
        const member = await this.#open(entry);
        const model = await server.prepare(member.opened.parts).catch(async (error: unknown) => {
          await member.opened.parts.engine.close();
          throw error;
        });
        const listed = { model, aliases: entry.aliases };
        fresh.push(listed);
        next.push({ member, entry, listed });
        change[old === undefined ? 'added' : 'replaced'].push(entry.name);
        if (this.#ended) throw new LockstepError('LS_CANCELLED', 'cancelled.');
      }
    } catch (error) {
      await Promise.all(fresh.map(({ model }) => model.close()));
      throw error;
    }
    const names = new Set(change.models);
    change.removed = this.#members.flatMap(({ entry }) =>
      names.has(entry.name) ? [] : entry.name,
    );
    for (const { member, entry } of next) member.entry = entry;
    this.#members = next.map(({ member }) => member);
    const left = [...change.removed, ...change.replaced];
    const gone = server.serve(next.map(({ listed }) => listed)).then(() => {
      if (left.length > 0) say(`closed, after their last answer: ${left.join(', ')}`);
    });
    this.#leaving.add(gone);
    void gone.finally(() => this.#leaving.delete(gone));
    return change;
  }

  /** Whether a model runs as its entry wants it. */
  async #same(old: Member, { model }: Listed, entry: ModelEntry): Promise<boolean> {
    if (old.lost || model.health().status === 'engine lost') return false;
    return old.state === (await stateOf(entry));
  }

  async #open(entry: ModelEntry): Promise<Member> {
    const state = await stateOf(entry);
    const opened = await openEntry(entry, this.#context).catch((error: unknown) => {
      throw entry.location === null ? error : atLocation(error, entry.location);
    });
    const member: Member = { entry, state, opened, lost: false };
    const { failed, lost } = opened;
    void (this.#exitWhenLost ? Promise.race([failed, lost]) : failed).then((error) => {
      member.lost = true;
      if (!this.#members.includes(member)) return;
      if (this.#members.every((one) => one.lost)) this.#lose(error);
      else {
        const words = `${entry.name}: ${error.message}; the other models are served`;
        printWarning({ code: error.code, message: words });
      }
    });
    return member;
  }
}
