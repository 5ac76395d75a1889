// The script that completes a command line in zsh (zshcompsys(1)).

import { GRANT_KIND_NAMES, kindRow } from "../machine/config.js";
import { KINDS, type Kind, keyTakesValue, keyWords } from "./kinds.js";
import { namesOf, type OptionRow, offered, takesValue, type Values, type Verb } from "./verb.js";

/** One word of the shell, whatever is in it. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** A description within a specification of _arguments. */
function described(text: string): string {
  return text.replace(/[\\[\]:]/g, "\\$&");
}

/** What _arguments does for a value. */
function action(values: Values = []): string {
  if (typeof values === "object") return values.length === 0 ? " " : `(${values.join(" ")})`;
  if (values === "file") return "_files";
  return values === "directory" ? "_files -/" : `_bulkhead_${values}`;
}

/** The specifications of an option, one for each of its forms, which exclude each other. */
function optionSpec(row: OptionRow): string[] {
  const names = namesOf(row);
  const isRepeated = row.repeats === true || (row.device !== undefined && takesValue(row));
  const others = isRepeated ? "*" : `(${names.join(" ")})`;
  return names.map((name) => {
    const form = takesValue(row) ? `${name}${name.startsWith("--") ? "=" : "+"}` : name;
    const value = takesValue(row) ? `: :${action(row.values)}` : "";
    return quoted(`${others}${form}[${described(row.summary)}]${value}`);
  });
}

function verbCase(verb: Verb): string {
  const { name, argument } = verb;
  const options = [...offered(verb), { flags: "-h, --help", summary: "show help" }];
  const many = argument?.form.includes("...") === true ? "*" : "1";
  const rest = argument === undefined ? [] : [quoted(`${many}: :${action(argument.values)}`)];
  const specs = [...options.flatMap(optionSpec), ...rest];
  return `    ${name}) _arguments \\\n      ${specs.join(" \\\n      ")} ;;`;
}

function kindCase([kind, { keys }]: [string, Kind]): string {
  const all = Object.entries(keys);
  const valued = all.filter(([, key]) => keyTakesValue(key)).map(([name]) => `${name}=`);
  const bare = all.filter(([, key]) => !keyTakesValue(key)).map(([name]) => name);
  const flags = bare.length === 0 ? "" : `; compadd -- ${bare.join(" ")}`;
  return `    ${kind}) compadd -S '' -- ${valued.join(" ")}${flags} ;;`;
}

function keyCases([kind, { keys }]: [string, Kind]): string[] {
  return Object.entries(keys).flatMap(([name, key]) => {
    if ("grants" in key) return `      ${kind},${name}) _files ;;`;
    const words = keyWords(key);
    return words.length === 0 ? [] : `      ${kind},${name}) compadd -- ${words.join(" ")} ;;`;
  });
}

function grantCases(): string[] {
  return GRANT_KIND_NAMES.flatMap((kind) => {
    const { what } = kindRow(kind);
    if (what === "PATH") return `    ${kind}) _files ;;`;
    return typeof what === "string" ? [] : `    ${kind}) compadd -- ${what.join(" ")} ;;`;
  });
}

/** The functions for words with a grammar of their own. */
function grammar(): string {
  const kinds = Object.entries(KINDS);
  return `# What stands behind the first comma of a device of kind $1.
_bulkhead_keys() {
  compset -P '*,'
  if [[ $PREFIX = *=* ]]; then
    local key=$1,\${PREFIX%%=*}
    compset -P '*='
    case $key in
${kinds.flatMap(keyCases).join("\n")}
    esac
    return
  fi
  case $1 in
${kinds.map(kindCase).join("\n")}
  esac
}

# KIND[,key=value]..., or the path of a module.
_bulkhead_device() {
  if [[ $PREFIX = *,* ]]; then _bulkhead_keys \${PREFIX%%,*}; return; fi
  compadd -- ${Object.keys(KINDS).join(" ")}
  _files -g '*.wasm'
}

# IMAGE[,key=value]...
_bulkhead_disk() {
  if [[ $PREFIX = *,* ]]; then _bulkhead_keys blk; else _files; fi
}

# ID.NAME=KIND:WHAT[:RIGHTS]
_bulkhead_grant() {
  compset -P '*=' || return 1
  if [[ $PREFIX != *:* ]]; then
    compadd -S '' -- ${GRANT_KIND_NAMES.map((kind) => `${kind}:`).join(" ")}
    return
  fi
  local kind=\${PREFIX%%:*}
  compset -P '*:'
  case $kind in
${grantCases().join("\n")}
  esac
}
`;
}

/** The script, for `verbs`. */
export function zshCompletion(verbs: readonly Verb[]): string {
  const named = verbs.map(({ name, summary }) => `    ${quoted(`${name}:${described(summary)}`)}`);
  return `#compdef bulkhead
# Completes bulkhead in zsh. Made by: bulkhead completion zsh

${grammar()}
_bulkhead_vm() {
  local names=$(bulkhead list --json 2> /dev/null | sed -n 's/.*"name":"\\([^"]*\\)".*/\\1/p')
  compadd -- \${(f)names}
}

_bulkhead_verb() {
  local -a verbs=(
${named.join("\n")}
  )
  _describe verb verbs
}

_bulkhead() {
  local curcontext=$curcontext state line
  _arguments -C \\
    '(-V --version)'{-V,--version}'[show the version]' \\
    '(-h --help)'{-h,--help}'[show help]' \\
    '1: :_bulkhead_verb' \\
    '*:: :->rest'
  [[ $state = rest ]] || return
  case $words[1] in
${verbs.map(verbCase).join("\n")}
  esac
}

if [[ $funcstack[1] = _bulkhead ]]; then _bulkhead "$@"; else compdef _bulkhead bulkhead; fi
`;
}
