// The script that completes a command line in bash.
//
// bash splits words at "=" and ":" and replaces only the part behind the last of them. So the word
// at the cursor is taken from COMP_LINE, candidates are whole words, and what is in front of that
// part is cut off at the end.

import { GRANT_KIND_NAMES, kindRow } from "../machine/config.js";
import { KINDS, type Kind, keyTakesValue, keyWords } from "./kinds.js";
import { namesOf, offered, takesValue, type Values, type Verb } from "./verb.js";

/** The command that fills `candidates` with values. */
function filler(values: Values = []): string {
  return typeof values === "object"
    ? `_bulkhead_words "${values.join(" ")}"`
    : `_bulkhead_${values}`;
}

/** Values of the options of a verb, or the options themselves. */
function verbCase(verb: Verb): string {
  const rows = offered(verb);
  const names = [...rows.flatMap(namesOf), "-h", "--help"].join(" ");
  const values = rows
    .filter(takesValue)
    .map((row) => `        ${namesOf(row).join("|")}) ${filler(row.values)} ;;`);
  return `    ${verb.name})
      case $previous in
${values.map((line) => `${line}\n`).join("")}        *)
          if [[ $word = -* ]]; then _bulkhead_words "${names}"
          else ${filler(verb.argument?.values)}
          fi ;;
      esac ;;`;
}

function kindCase([kind, { keys }]: [string, Kind]): string {
  const words = Object.entries(keys).map(
    ([name, key]) => `${name}${keyTakesValue(key) ? "=" : ""}`,
  );
  return `    ${kind}) _bulkhead_behind "${words.join(" ")}" ;;`;
}

/** What the value of each key is: a file, or one of some words. */
function keyCases([kind, { keys }]: [string, Kind]): string[] {
  return Object.entries(keys).flatMap(([name, key]) => {
    if ("grants" in key) return `    ${kind},${name}) _bulkhead_behind_file ;;`;
    const words = keyWords(key);
    return words.length === 0
      ? []
      : `    ${kind},${name}) _bulkhead_behind "${words.join(" ")}" ;;`;
  });
}

/** What the WHAT of each kind of grant is. */
function grantCases(): string[] {
  return GRANT_KIND_NAMES.flatMap((kind) => {
    const { what } = kindRow(kind);
    if (what === "PATH") return `    ${kind}) _bulkhead_behind_file ;;`;
    return typeof what === "string" ? [] : `    ${kind}) _bulkhead_behind "${what.join(" ")}" ;;`;
  });
}

const VALUES = `

# Names of the VMs that run.
_bulkhead_vm() {
  local names
  names=$("\${COMP_WORDS[0]}" list --json 2> /dev/null | sed -n 's/.*"name":"\\([^"]*\\)".*/\\1/p')
  _bulkhead_words "$names"
}
_bulkhead_words() { mapfile -t candidates < <(compgen -W "$1" -- "$word"); }
_bulkhead_file() { are_files=1; mapfile -t candidates < <(compgen -f -- "$word"); }
_bulkhead_directory() { are_files=1; mapfile -t candidates < <(compgen -d -- "$word"); }

# What is behind the last "=", ":" or "," of the word.
_bulkhead_behind() {
  local end=\${word##*[=:,]}
  mapfile -t candidates < <(compgen -W "$1" -- "$end")
  candidates=("\${candidates[@]/#/"\${word%"$end"}"}")
}
_bulkhead_behind_file() {
  local end=\${word##*[=:,]}
  are_files=1
  mapfile -t candidates < <(compgen -f -- "$end")
  candidates=("\${candidates[@]/#/"\${word%"$end"}"}")
}`;

/** The functions for words with a grammar of their own. */
function grammar(): string {
  const kinds = Object.entries(KINDS);
  return `
# KIND[,key=value]..., or the path of a module.
_bulkhead_device() {
  local kind=\${word%%,*} last=\${word##*,}
  if [[ $word != *,* ]]; then
    _bulkhead_words "${Object.keys(KINDS).join(" ")}"
    ((\${#candidates[@]})) || _bulkhead_file
    return
  fi
  if [[ $last = *=* ]]; then
    case $kind,\${last%%=*} in
${kinds.flatMap(keyCases).join("\n")}
    esac
    return
  fi
  case $kind in
${kinds.map(kindCase).join("\n")}
  esac
}

# IMAGE[,key=value]...
_bulkhead_disk() {
  if [[ $word != *,* ]]; then _bulkhead_file; return; fi
  local disk=$word image=\${word%%,*}
  word=blk,\${word#*,}
  _bulkhead_device
  candidates=("\${candidates[@]/#blk,/"$image,"}")
  word=$disk
}

# ID.NAME=KIND:WHAT[:RIGHTS]
_bulkhead_grant() {
  local grant=\${word#*=}
  if [[ $word != *=* ]]; then return; fi
  if [[ $grant != *:* ]]; then
    _bulkhead_behind "${GRANT_KIND_NAMES.map((kind) => `${kind}:`).join(" ")}"
    return
  fi
  case \${grant%%:*} in
${grantCases().join("\n")}
  esac
}`;
}

/** The words of the line, and what in the end replaces which part of it. */
function main(verbs: readonly Verb[]): string {
  const names = verbs.map(({ name }) => name).join(" ");
  return `
_bulkhead_verb() { _bulkhead_words "${names}"; }

_bulkhead() {
  local line=\${COMP_LINE:0:COMP_POINT} verb= previous= word= prefix= are_files= i each
  local -a words candidates=()
  read -ra words <<< "$line"
  if [[ $line = *[[:space:]] ]]; then words+=(""); fi
  word=\${words[-1]}
  if ((\${#words[@]} > 1)); then previous=\${words[-2]}; fi
  for ((i = 1; i < \${#words[@]} - 1; i++)); do
    if [[ \${words[i]} != -* ]]; then verb=\${words[i]}; break; fi
  done
  if [[ $word = --*=* ]]; then
    previous=\${word%%=*} prefix=$previous= word=\${word#*=}
  fi
  case $verb in
    "") _bulkhead_words "${names} --help --version" ;;
${verbs.map(verbCase).join("\n")}
  esac
  local whole=$prefix$word breaks=\${COMP_WORDBREAKS-=:}
  [[ $breaks = *=* ]] || whole=\${whole//=/-}
  [[ $breaks = *:* ]] || whole=\${whole//:/-}
  local cut=\${whole%"\${whole##*[=:]}"}
  COMPREPLY=()
  for each in "\${candidates[@]}"; do
    each=$prefix$each
    COMPREPLY+=("\${each:\${#cut}}")
  done
  if [[ $are_files ]]; then compopt -o filenames 2> /dev/null; fi
  if [[ \${COMPREPLY[0]-} = *[=:] ]]; then compopt -o nospace 2> /dev/null; fi
  return 0
}
complete -F _bulkhead bulkhead
`;
}

/** The script, for `verbs`. */
export function bashCompletion(verbs: readonly Verb[]): string {
  const head = "# Completes bulkhead in bash. Made by: bulkhead completion bash\n";
  return `${head}${VALUES}\n${grammar()}\n${main(verbs)}`;
}
