// What a device author imports. Everything else in this folder is the SDK's own affair.
export { copyBytes, getBE, setBE } from "./bytes";
export { capability, Need, Rights } from "./capability";
export { CHAIN_BYTES_MAX, Chain } from "./chain";
export { Clock } from "./clock";
export { ConfigBytes, configBytes, configSpace } from "./config";
export { Awaitable, Descriptor } from "./descriptor";
export { Device, register } from "./device";
export { Directory, DirectoryFile, How } from "./directory";
export { errnoName } from "./errno";
export { File } from "./file";
export { log, logLine } from "./log";
export { demand, FlagOption, NumberOption, option, TextOption } from "./option";
export { Random } from "./random";
export { Tap } from "./tap";
export { Tty } from "./tty";
export { Unix } from "./unix";
export * from "./virtio";
