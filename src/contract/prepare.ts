// A policy's tables for a vocabulary: the one time that a policy sees text.

import { LockstepError } from '../errors.ts';
import type { ChatMarks, Policy, Vocabulary } from '../policies/policy.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { placeInConfig } from '../user-places.ts';
import { chatMarks } from './chat/marks.ts';
import { contractSchema, type Json } from './schema.ts';
import { userCodeLimit, withinTime } from './time-limit.ts';

export interface Prepared {
  tables: Json;
  /** The chat template's marks, where the policy asked for them. */
  chat: ChatMarks | null;
}

/** Thrown by `vocabulary.chat()` the first time: `prepare` is run again when the marks are there. */
const wanted = new Error('the chat template is not rendered yet');

/**
 * Call `prepare`. The chat template is rendered only for a policy that asks for it.
 *
 * @throws LS_POLICY_PREPARE where `prepare` throws or returns what the contract cannot hold;
 *   LS_POLICY_TURNS, LS_TEMPLATE_* where it asks for a chat template that cannot be used
 */
export async function prepareTables(policy: Policy, tokenizer: Tokenizer): Promise<Prepared> {
  let asked = false;
  const first = attempt(policy, tokenizer.vocabulary, () => {
    asked = true;
    throw wanted;
  });
  if (!asked) return { tables: checked(policy, first), chat: null };
  const chat = await chatMarks(tokenizer);
  return {
    tables: checked(
      policy,
      attempt(policy, tokenizer.vocabulary, () => chat),
    ),
    chat,
  };
}

type Attempt = { tables: Json } | { error: unknown };

function attempt(policy: Policy, known: Vocabulary, chat: () => ChatMarks): Attempt {
  const vocabulary: Vocabulary = Object.freeze({ ...known, chat });
  try {
    return {
      tables: withinTime(
        () => policy.prepare(vocabulary),
        userCodeLimit,
        `prepare of the policy ${policy.name}`,
      ),
    };
  } catch (error) {
    return { error };
  }
}

function checked(policy: Policy, outcome: Attempt): Json {
  const fail = (got: string, cause?: unknown): LockstepError =>
    new LockstepError(
      'LS_POLICY_PREPARE',
      `policy ${policy.name}: expected tables from prepare, got ${got}`,
      {
        fix: 'Let prepare return integers, strings, booleans, null, lists and plain objects of them.',
        field: 'policy',
        cause,
        place: placeInConfig(cause),
      },
    );
  if ('error' in outcome) {
    const { error } = outcome;
    if (isRefusal(error)) throw error;
    throw fail(`an error: ${error instanceof Error ? error.message : String(error)}`, error);
  }
  const { error } = contractSchema.shape.tables.safeParse(outcome.tables);
  if (error === undefined) return outcome.tables;
  throw fail(
    `something that is no JSON of integers at ${['tables', ...(error.issues[0]?.path ?? [])].join('.')}`,
  );
}

/** A policy of Lockstep's that refuses its parameters says so itself. By name: configs hold a copy of the class. */
function isRefusal(error: unknown): error is LockstepError {
  const { name, code } = (error ?? {}) as Partial<LockstepError>;
  return name === 'LockstepError' && code === 'LS_POLICY_PARAMS';
}
