// The table of verbs, the kinds of device and those of grants → the reference, as a list of blocks
// that can be printed as a manual page or as text.

import { EXIT } from "../errors.js";
import { exampleOf, formsOf, GRANT_KIND_NAMES } from "../machine/config.js";
import { HELP_COLUMNS, summaryOf, usageOf } from "./help.js";
import { KINDS, type Kind, keyForm } from "./kinds.js";
import type { Example, OptionRow, Verb } from "./verb.js";

/** A piece of the reference. */
export type Block =
  | { type: "section" | "subsection" | "text"; text: string }
  /** A word and what it means. */
  | { type: "item"; word: string; text: string }
  /** Lines to type. */
  | { type: "code"; lines: readonly string[] };

const text = (...paragraphs: string[]): Block[] =>
  paragraphs.map((each) => ({ type: "text", text: each }));

/** Half a line of a table as a sentence. */
function sentence(words: string): string {
  const capital = words.charAt(0).toUpperCase() + words.slice(1);
  return capital.endsWith(".") ? capital : `${capital}.`;
}

function optionBlock(row: OptionRow): Block {
  const { flags, missing, details } = row;
  const lacks = `lkvm has a ${missing} here, Bulkhead none of its own yet: see --device.`;
  const first = missing === undefined ? sentence(summaryOf(row)) : lacks;
  const more = details === undefined ? "" : ` ${details}`;
  return { type: "item", word: flags, text: `${first}${more}` };
}

function exampleLines(examples: readonly Example[]): Block {
  const lines = examples.flatMap(({ line, what }) => [`# ${what}`, `bulkhead ${line}`]);
  return { type: "code", lines };
}

/** All that is to be said of one verb. */
export function verbBlocks(verb: Verb): Block[] {
  const { name, description, argument, options, examples, details = [] } = verb;
  const named: Block[] =
    argument === undefined
      ? []
      : [{ type: "item", word: argument.form, text: sentence(argument.summary) }];
  return [
    { type: "subsection", text: name },
    { type: "code", lines: [usageOf(verb)] },
    ...text(description.replaceAll("\n", " "), ...details),
    ...named,
    ...options.map(optionBlock),
    exampleLines(examples),
  ];
}

function kindBlocks([name, { summary, keys }]: [string, Kind]): Block[] {
  const items = Object.entries(keys).map(([word, key]): Block => {
    const { fallback } = key as { fallback?: string };
    const otherwise = fallback === undefined ? "" : ` (default: ${fallback})`;
    return { type: "item", word: keyForm(word, key), text: sentence(`${key.summary}${otherwise}`) };
  });
  return [{ type: "subsection", text: name }, ...text(sentence(summary)), ...items];
}

function deviceBlocks(): Block[] {
  const intro =
    "What --device takes: a kind and its keys, or the path of a module and its options. Each is " +
    "one word, with commas in it: blk,image=disk.img,ro.";
  const own: Block = {
    type: "item",
    word: "./mine.wasm[,option=value]...",
    text: "A module of one's own, made by bulkhead build; its first instance is mine0.",
  };
  return [
    { type: "section", text: "DEVICES" },
    ...text(intro),
    own,
    ...Object.entries(KINDS).flatMap(kindBlocks),
  ];
}

function grantBlocks(): Block[] {
  const items = GRANT_KIND_NAMES.map((kind): Block => {
    return { type: "item", word: kind, text: `${formsOf(kind).join(", ")}.` };
  });
  const intro =
    "What --grant ID.NAME=KIND:WHAT[:RIGHTS] takes. ID is the device's, NAME what its module " +
    "calls the capability. Without RIGHTS it is the first form.";
  return [{ type: "section", text: "GRANTS" }, ...text(intro), ...items];
}

const STATUS: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: "The guest powered off, rebooted or was stopped at the terminal; the verb has done its work.",
  internal: "Internal error.",
  usage: "Bad arguments, a file that cannot be used, or a source with mistakes.",
  kvmUnavailable: "KVM is not usable.",
  guestCrashed: "The guest crashed.",
  deviceFailed: "A device failed for good.",
  sandboxFailed: "The sandbox could not be set up.",
};

function statusBlocks(): Block[] {
  const items = Object.entries(STATUS).map(([name, meaning]): Block => {
    return { type: "item", word: `${EXIT[name as keyof typeof EXIT]}`, text: meaning };
  });
  const signal: Block = {
    type: "item",
    word: "128 + N",
    text: "Signal N ended the guest, or the VMM.",
  };
  return [{ type: "section", text: "EXIT STATUS" }, ...items, signal];
}

/** The whole reference. */
export function reference(verbs: readonly Verb[]): Block[] {
  const example = `--grant mine0.image=file:${exampleOf("file")}:ro`;
  return [
    { type: "section", text: "NAME" },
    ...text("bulkhead - a virtual machine monitor whose devices are confined, one process each"),
    { type: "section", text: "SYNOPSIS" },
    { type: "code", lines: ["bulkhead VERB [options]", "bulkhead VERB --help"] },
    { type: "section", text: "DESCRIPTION" },
    ...text(
      "Bulkhead runs Linux guests on KVM. Each device of a guest is a WebAssembly module in a " +
        "process of its own, which may make about a dozen system calls, on the descriptors that " +
        `were granted by name, as in ${example}, and has no mapping of the guest's memory.`,
    ),
    { type: "section", text: "VERBS" },
    ...verbs.flatMap(verbBlocks),
    ...deviceBlocks(),
    ...grantBlocks(),
    ...statusBlocks(),
  ];
}

/** Words of `paragraph` in lines, each behind `indent`. */
function wrapped(paragraph: string, indent: string): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of paragraph.split(/\s+/)) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (indent.length + longer.length <= HELP_COLUMNS || line === "") line = longer;
    else {
      lines.push(indent + line);
      line = word;
    }
  }
  return [...lines, indent + line];
}

/** Columns of what belongs to a section, and of what is said of an item. */
const INDENT = " ".repeat(4);
const DEEPER = " ".repeat(8);

function textOf(block: Block): string[] {
  switch (block.type) {
    case "section":
      return [block.text];
    case "subsection":
      return [`  ${block.text}`];
    case "text":
      return [...wrapped(block.text, INDENT), ""];
    case "item":
      return [INDENT + block.word, ...wrapped(block.text, DEEPER), ""];
    case "code":
      return [...block.lines.map((line) => INDENT + line), ""];
  }
}

/** The blocks as plain text of 80 columns; only lines to type may be longer. */
export function asText(blocks: readonly Block[]): string {
  return `${blocks.flatMap(textOf).join("\n").trimEnd()}\n`;
}

/** Text as roff takes it: no escape, no request, and hyphens that can be copied. */
function escaped(line: string): string {
  return line
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/, "\\&$1");
}

function roffOf(block: Block): string[] {
  switch (block.type) {
    case "section":
      return [`.SH "${escaped(block.text)}"`];
    case "subsection":
      return [`.SS "${escaped(block.text)}"`];
    case "text":
      return [".PP", escaped(block.text)];
    case "item":
      return [".TP", `\\fB${escaped(block.word)}\\fR`, escaped(block.text)];
    case "code":
      return [".PP", ".nf", ...block.lines.map(escaped), ".fi"];
  }
}

/** The blocks as the source of a manual page (man(7)). */
export function asRoff(blocks: readonly Block[], version: string): string {
  const title = `.TH BULKHEAD 1 "" "Bulkhead ${escaped(version)}" "User Commands"`;
  return `${[title, ...blocks.flatMap(roffOf)].join("\n")}\n`;
}
