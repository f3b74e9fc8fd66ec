// `/v1/models`: what is served, under which names, and with which contract.
import type { Request, Response } from 'express';
import type { Listed, Models } from '../models/models.ts';

export function modelList(models: Models) {
  return (_request: Request, response: Response): void => {
    response.json({ object: 'list', data: models.all.map(cardOf) });
  };
}

export function modelCard(models: Models) {
  return (request: Request<{ model: string }>, response: Response): void => {
    const found = models.find(request.params.model);
    const listed = models.all.find(({ model }) => model === found);
    if (listed !== undefined) response.json(cardOf(listed));
  };
}

function cardOf({ model, aliases }: Listed): object {
  const { info, contract } = model.runner;
  return {
    id: model.name,
    object: 'model',
    created: model.created,
    owned_by: 'lockstep',
    lockstep: { digest: contract.digest, engine: info.name, precision: info.precision, aliases },
  };
}
