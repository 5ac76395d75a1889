// A raw image: the bytes of the disk, one after the other, in a file or a block device.

import { Chain, File } from "bulkhead/sdk";
import { Barrier, complain, Image, PIECE_BYTES, Target, ZEROES } from "./image";

/** Makes `bytes` bytes of a file zero, in pieces. */
export function zeroFile(file: File, offset: u64, bytes: u64): bool {
  for (let done: u64 = 0; done < bytes; ) {
    const piece = <u32>min(bytes - done, <u64>PIECE_BYTES);
    const count = file.writeBytesAt(offset + done, ZEROES, 0, piece);
    if (count < piece) {
      complain("writing", offset + done + count, file.errno);
      return false;
    }
    done += piece;
  }
  return true;
}

@final
export class RawImage extends Image {
  private readonly barrier: Barrier;

  constructor(private readonly file: File) {
    super();
    this.barrier = new Barrier(file);
    this.size = file.size;
  }

  read(offset: u64, bytes: u32, target: Target): bool {
    return target.addFile(this.file, offset, bytes);
  }

  write(offset: u64, bytes: u32, chain: Chain): bool {
    const count = chain.readIntoAt(this.file, offset, bytes);
    if (count == bytes) return true;
    complain("writing", offset + count, this.file.errno);
    return false;
  }

  zero(offset: u64, bytes: u64): bool {
    return zeroFile(this.file, offset, bytes);
  }

  flush(): bool {
    return this.barrier.wait();
  }
}
