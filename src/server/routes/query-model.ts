// Which model a request without a body asks about: `?model=`, or else the first.
import type { Request } from 'express';
import { invalid } from '../errors.ts';
import type { ServedModel } from '../models/model.ts';
import type { Models } from '../models/models.ts';

/** @throws HttpError 404 `model_not_found`; 400 where it is given more than once */
export function queryModel(request: Request, models: Models): ServedModel {
  const { model } = request.query;
  if (model === undefined) return models.first;
  if (typeof model === 'string') return models.find(model);
  throw invalid('model', '`model` is given more than once.');
}
