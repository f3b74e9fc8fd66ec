// What a chat template is given: as transformers' `apply_chat_template` gives it.

export interface TemplateSettings {
  /** Text of `bos_token`, `eos_token`, ... */
  specialTokens: Readonly<Record<string, string>>;
  messages: readonly object[];
  /** Whether the header of an answer is written at the end. */
  addGenerationPrompt: boolean;
  tools?: readonly object[] | null;
  /** A request's `chat_template_kwargs`: variables of the template's own. They go before special tokens. */
  options?: object | undefined;
}

export function templateContext(settings: TemplateSettings): object {
  const { specialTokens, messages, addGenerationPrompt, tools = null, options = {} } = settings;
  return {
    ...specialTokens,
    ...options,
    messages,
    add_generation_prompt: addGenerationPrompt,
    tools,
    documents: null,
  };
}
