// The files of a disk, and what they are opened as: an image, and below a qcow2 image the backing
// files that its user grants. Only what is granted is there: the name in an image opens nothing, it
// is what the user is told when a file is missing.

import { capability, demand, File, getBE, logLine, Need, option, Rights } from "bulkhead/sdk";
import { Format, formatOf, Header, QCOW_MAGIC } from "./header";
import { Image } from "./image";
import { Qcow2Image } from "./qcow2";
import { Qcow2Writer } from "./qcow2-writer";
import { RawImage } from "./raw";

export const image = capability.file("image", Rights.Read | Rights.Write);
const backing0 = capability.file("backing0", Rights.Read, Need.Optional);
const backing1 = capability.file("backing1", Rights.Read, Need.Optional);
const backing2 = capability.file("backing2", Rights.Read, Need.Optional);
const backing3 = capability.file("backing3", Rights.Read, Need.Optional);
/** In the order in which each is the backing file of the one before: no chain is longer. */
const files: StaticArray<File> = [image, backing0, backing1, backing2, backing3];
const NAMES: StaticArray<string> = ["image", "backing0", "backing1", "backing2", "backing3"];

const format = option.text("format");
/** Of backing files about whose format their images say nothing. */
const backingFormat = option.text("backing-format");

const magic = new StaticArray<u8>(4);

function openRaw(index: u32): Image {
  const file = files[index];
  if (file.readBytesAt(0, magic, 0, 4) == 4 && getBE<u32>(magic, 0) == QCOW_MAGIC) {
    const name = NAMES[index];
    logLine(name).text(": it looks like qcow2, but is used as raw (format=qcow2 if not)").end();
  }
  return new RawImage(file);
}

function openQcow2(index: u32, isReadOnly: bool): Image {
  const header = new Header(files[index], NAMES[index]);
  const opened = isReadOnly
    ? new Qcow2Image(files[index], index, header)
    : new Qcow2Writer(files[index], index, header);
  if (header.backingNameAt != 0) opened.backing = openBacking(index + 1, header);
  return opened;
}

/** The file behind the image with this header, which is the `index`-th. */
function openBacking(index: u32, header: Header): Image {
  if (index == <u32>files.length) header.refuseBacking("would be the fifth: 4 are the most");
  if (!files[index].granted) header.refuseBacking("is not granted: add backing=PATH, read-only");
  let kind = header.backingFormat;
  if (kind == Format.Unknown) kind = formatOf(backingFormat.bytes, 0, backingFormat.length);
  if (kind == Format.Unknown) {
    header.refuseBacking("has no format: add backing-format=raw or backing-format=qcow2");
  }
  if (kind == Format.Other) header.refuseBacking("is neither raw nor qcow2");
  used = index + 1;
  return kind == Format.Raw ? openRaw(index) : openQcow2(index, true);
}

/** Files that are part of the disk. */
let used: u32 = 1;

/** Opens the disk that the user granted; ends the device if it cannot be used. */
export function openDisk(isReadOnly: bool): Image {
  const kind = formatOf(format.bytes, 0, format.length);
  demand(kind != Format.Other, "format: raw or qcow2");
  const disk = kind == Format.Qcow2 ? openQcow2(0, isReadOnly) : openRaw(0);
  for (let index = used; index < <u32>files.length; index++) {
    if (!files[index].granted) continue;
    logLine(NAMES[index]).text(": granted, but ").text(NAMES[index - 1]).text(
      " names no backing file",
    ).refuse();
  }
  return disk;
}
