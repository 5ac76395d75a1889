// A new folder with a device in it that builds, is tested and runs: devices-as/template, with the
// device's name in it.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { VmmError } from "../errors.js";
import { NAME } from "../sandbox/manifest.js";
import { dependencyOn } from "./dependency.js";

const PACKAGE = fileURLToPath(new URL("../../..", import.meta.url));
const TEMPLATE = path.join(PACKAGE, "devices-as", "template");

export interface NewDevice {
  folder: string;
  files: string[];
}

/** Name in the new folder of a file of the template. npm packs no file called .gitignore. */
function nameOf(file: string, name: string): string {
  return file === "gitignore" ? ".gitignore" : file.replace(/^device\./, `${name}.`);
}

function checkName(name: string): void {
  if (NAME.test(name)) return;
  const near = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^[-0-9]+|-$/g, "");
  const advice = NAME.test(near) ? `\ndid you mean "${near}"?` : "";
  const rule = "a device's name is a small letter and up to 31 small letters, digits and hyphens";
  throw new VmmError("ERR_USAGE", `Cannot make a device "${name}": ${rule}${advice}`);
}

function checkFolder(folder: string): void {
  const found = fs.lstatSync(folder, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (found.isDirectory() && fs.readdirSync(folder).length === 0) return;
  const what = found.isDirectory() ? "is there and not empty" : "is there and no directory";
  throw new VmmError("ERR_USAGE", `Cannot make "${folder}": it ${what}\nchoose another name`);
}

/** Copies the template to `folder` with its words replaced; returns the names of the files. */
function fill(folder: string, words: Record<string, string>): string[] {
  return fs.readdirSync(TEMPLATE).map((file) => {
    const text = fs.readFileSync(path.join(TEMPLATE, file), "utf8");
    const filled = Object.entries(words).reduce(
      (all, [word, by]) => all.replaceAll(word, by),
      text,
    );
    const name = nameOf(file, words["@NAME@"]!);
    fs.writeFileSync(path.join(folder, name), filled);
    return name;
  });
}

/**
 * Makes the folder `name` in `parent`, whole or not at all.
 *
 * @throws VmmError ERR_USAGE for a bad name, or a folder that is there and not empty; ERR_FILE
 */
export function newDevice(name: string, parent: string): NewDevice {
  checkName(name);
  const folder = path.join(parent, name);
  checkFolder(folder);
  // In JSON it stands between quotation marks.
  const bulkhead = JSON.stringify(dependencyOn(fs.realpathSync(PACKAGE))).slice(1, -1);
  let unfinished: string | undefined;
  try {
    unfinished = fs.mkdtempSync(path.join(parent, `.${name}-`));
    const files = fill(unfinished, { "@NAME@": name, "@BULKHEAD@": bulkhead });
    fs.chmodSync(unfinished, 0o777 & ~process.umask());
    fs.renameSync(unfinished, folder);
    return { folder, files: files.sort() };
  } catch (cause) {
    if (unfinished !== undefined) fs.rmSync(unfinished, { recursive: true, force: true });
    const { code, message, syscall } = cause as NodeJS.ErrnoException;
    throw new VmmError("ERR_FILE", `Cannot make "${folder}": ${code ?? message}`, {
      syscall,
      cause,
    });
  }
}
