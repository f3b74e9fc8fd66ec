// `/v1/models`: what is served, under which names, and with which contract.
import type { Request, Response } from 'express';
import type { ServedModel } from '../models/model.ts';
import type { Models } from '../models/models.ts';

export function modelList(models: Models) {
  return (_request: Request, response: Response): void => {
    const all = models.all.flatMap(({ model, aliases }) => [
      cardOf(model, aliases),
      ...model.adapters.map((one) => cardOf(one)),
    ]);
    response.json({ object: 'list', data: all });
  };
}

export function modelCard(models: Models) {
  return (request: Request<{ model: string }>, response: Response): void => {
    const found = models.find(request.params.model);
    const listed = models.all.find(({ model }) => model === found);
    response.json(cardOf(found, listed?.aliases));
  };
}

function cardOf(model: ServedModel, aliases: readonly string[] = []): object {
  const { info, contract } = model.runner;
  const { parent } = model;
  return {
    id: model.name,
    object: 'model',
    created: model.created,
    owned_by: 'lockstep',
    // The model that an adapter runs over, as vLLM names it.
    ...(parent === null ? {} : { parent: parent.name }),
    lockstep: { digest: contract.digest, engine: info.name, precision: info.precision, aliases },
  };
}
