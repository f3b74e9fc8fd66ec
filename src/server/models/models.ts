// The models that a server serves now, by their names; those that are no longer named finish what they run.
import type { Response } from 'express';
import { HttpError, invalid } from '../errors.ts';
import type { ServedModel } from './model.ts';

/** A model, and what it is called beside its name. */
export interface Listed {
  model: ServedModel;
  aliases: readonly string[];
}

/** Names that an error shows. */
const SHOWN = 8;

export class Models {
  #list: readonly Listed[] = [];
  #names = new Map<string, ServedModel>();
  readonly #leaving = new Map<ServedModel, Promise<void>>();

  /** In the order in which they are listed; at least one. */
  get all(): readonly Listed[] {
    return this.#list;
  }

  /** The one that is meant where a page or a tool names none. */
  get first(): ServedModel {
    const [first] = this.#list;
    if (first === undefined) throw new Error('a server without a model');
    return first.model;
  }

  /** Models that run, those that are leaving among them. */
  get running(): readonly ServedModel[] {
    return [...new Set([...this.#list.map(({ model }) => model), ...this.#leaving.keys()])];
  }

  /** Names and aliases. */
  get names(): readonly string[] {
    return [...this.#names.keys()];
  }

  /** Generations that hold a slot. */
  get active(): number {
    return this.running.reduce((sum, { context }) => sum + context.queue.active, 0);
  }

  /** Generations that wait for one. */
  get waiting(): number {
    return this.running.reduce((sum, { context }) => sum + context.queue.waiting, 0);
  }

  /**
   * The model, or the adapter over one, that a request asks for by its name or an alias. Without a name it is
   * the only model.
   *
   * @throws HttpError 404 `model_not_found`; 400 where none is named and several are served
   */
  find(asked: string | undefined): ServedModel {
    if (asked === undefined) {
      if (this.#list.length === 1) return this.first;
      const words = `\`model\`: expected one of ${this.#named()}, got none.`;
      throw invalid('model', words, 'missing_parameter');
    }
    const found = this.#names.get(asked);
    if (found !== undefined) return found;
    const name = asked.length > 80 ? `${asked.slice(0, 80)}…` : asked;
    const served = `${this.#named()} ${this.#names.size === 1 ? 'is' : 'are'}`;
    throw new HttpError(404, `The model \`${name}\` is not served here; ${served}.`, {
      param: 'model',
      code: 'model_not_found',
    });
  }

  /** `find`, and hold the model until the response has ended. The log and the trace name it. */
  take(asked: string | undefined, response: Response): ServedModel {
    const model = this.find(asked);
    response.locals['model'] = model.name;
    const release = model.hold();
    if (response.closed || response.destroyed) release();
    else response.once('close', release);
    return model;
  }

  /**
   * Serve these from now on, and no others. A model that is left out gets no new request; when the last one that
   * uses it has ended, it is closed.
   *
   * @returns settles when all that were left out are closed
   */
  serve(list: readonly Listed[]): Promise<void> {
    const before = this.#list.map(({ model }) => model);
    this.#list = [...list];
    this.#names = new Map(
      list.flatMap(({ model, aliases }) => [
        ...[model.name, ...aliases].map((name): [string, ServedModel] => [name, model]),
        ...model.adapters.map((one): [string, ServedModel] => [one.name, one]),
      ]),
    );
    const left = before.filter((model) => !list.some((one) => one.model === model));
    return Promise.all(left.map((model) => this.#leave(model))).then(() => {});
  }

  /** Turn away everyone who waits or comes; running generations continue. */
  refuse(): void {
    for (const { context } of this.running) context.queue.close();
  }

  /** Free every engine. */
  async close(): Promise<void> {
    await Promise.all(this.running.map((model) => model.close()));
    await Promise.all(this.#leaving.values());
  }

  #leave(model: ServedModel): Promise<void> {
    const left = (async () => {
      await model.idle();
      await model.close();
    })().finally(() => this.#leaving.delete(model));
    this.#leaving.set(model, left);
    return left;
  }

  #named(): string {
    const all = this.#list.flatMap(({ model }) => [model, ...model.adapters]);
    const names = all.map(({ name }) => `\`${name}\``);
    const more = names.length - SHOWN;
    return more > 0
      ? `${names.slice(0, SHOWN).join(', ')} and ${more} more`
      : names.join(', ').replace(/, (?=[^,]*$)/, ' and ');
  }
}
