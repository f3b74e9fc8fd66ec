// Completion scripts for bash, zsh and fish.

export interface Known {
  readonly name: string;
  readonly description: string;
  readonly options: readonly KnownOption[];
  /** Values of the command's arguments; none: files. */
  readonly choices: readonly string[];
}

export interface KnownOption {
  /** `--config` */
  readonly long: string;
  readonly description: string;
  readonly choices: readonly string[];
  /** Whether a value follows. */
  readonly value: boolean;
}

/** Names and choices are words of this program's own, without blanks or quotes. */
const words = (list: readonly string[]): string => list.join(' ');

export function bashScript(commands: readonly Known[]): string {
  return `# lockstep completion bash
_lockstep() {
  local word="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}"
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "help ${words(commands.map(({ name }) => name))}" -- "$word"))
    return
  fi
${bodyOf(commands, 'COMP_WORDS[1]')}
  if [ "$word" = "" ] || [ "\${word#-}" = "$word" ]; then
    if [ -n "$arguments" ]; then COMPREPLY=($(compgen -W "$arguments" -- "$word")); return; fi
    COMPREPLY=($(compgen -f -- "$word"))
  else
    COMPREPLY=($(compgen -W "$options" -- "$word"))
  fi
}
complete -o filenames -F _lockstep lockstep
`;
}

/** Sets \`options\` and \`arguments\`, and answers at once for the value of an option. */
function bodyOf(commands: readonly Known[], command: string): string {
  const cases = commands.map(({ name, options, choices }) => {
    const withChoices = options.filter((option) => option.choices.length > 0);
    const values = withChoices.map(
      (option) =>
        `        ${option.long}) COMPREPLY=($(compgen -W "${words(option.choices)}" -- "$word")); return ;;`,
    );
    const files = options.filter((option) => option.value && option.choices.length === 0);
    if (files.length > 0) {
      const names = files.map(({ long }) => long).join('|');
      values.push(`        ${names}) COMPREPLY=($(compgen -f -- "$word")); return ;;`);
    }
    return [
      `    ${name})`,
      '      case "$before" in',
      ...values,
      '      esac',
      `      options="${words(options.map(({ long }) => long))}"`,
      `      arguments="${words(choices)}" ;;`,
    ].join('\n');
  });
  const all = words(commands.map(({ name }) => name));
  return [
    '  local options="" arguments=""',
    `  case "\${${command}}" in`,
    `    help) arguments="${all}" ;;`,
    ...cases,
    '  esac',
  ].join('\n');
}

export function zshScript(commands: readonly Known[]): string {
  const quoted = (text: string): string =>
    text.replaceAll("'", "'\\''").replaceAll('[', '(').replaceAll(']', ')').replaceAll(':', '\\:');
  const described = commands.map(({ name, description }) => `    '${name}:${quoted(description)}'`);
  const cases = commands.map(({ name, options, choices }) => {
    const specs = options.map(({ long, description, choices: values, value }) => {
      const argument = value ? `:value:${values.length > 0 ? `(${words(values)})` : '_files'}` : '';
      return `'${long}[${quoted(description)}]${argument}'`;
    });
    const rest = choices.length > 0 ? `'*:argument:(${words(choices)})'` : "'*:file:_files'";
    return `    ${name}) _arguments ${[...specs, rest].join(' ')} ;;`;
  });
  return `#compdef lockstep
_lockstep() {
  local -a commands=(
    'help:show the help of a command'
${described.join('\n')}
  )
  if (( CURRENT == 2 )); then _describe command commands; return; fi
  shift words; (( CURRENT-- ))
  case "$words[1]" in
    help) _describe command commands ;;
${cases.join('\n')}
  esac
}
compdef _lockstep lockstep
`;
}

export function fishScript(commands: readonly Known[]): string {
  const quoted = (text: string): string =>
    `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const lines = [
    '# lockstep completion fish',
    'complete -c lockstep -n __fish_use_subcommand -f -a help',
  ];
  for (const { name, description, options, choices } of commands) {
    lines.push(
      `complete -c lockstep -n __fish_use_subcommand -f -a ${name} -d ${quoted(description)}`,
    );
    lines.push(`complete -c lockstep -n '__fish_seen_subcommand_from help' -f -a ${name}`);
    const here = `-n '__fish_seen_subcommand_from ${name}'`;
    if (choices.length > 0) lines.push(`complete -c lockstep ${here} -f -a '${words(choices)}'`);
    for (const option of options) {
      const value = !option.value
        ? ''
        : option.choices.length > 0
          ? ` -x -a '${words(option.choices)}'`
          : ' -r';
      lines.push(
        `complete -c lockstep ${here} -l ${option.long.slice(2)}${value} -d ${quoted(option.description)}`,
      );
    }
  }
  return `${lines.join('\n')}\n`;
}
