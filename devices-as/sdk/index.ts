// What a device author imports. Everything else in this folder is the SDK's own affair.
export { capability, File, Rights } from "./capability";
export { Chain } from "./chain";
export { Clock } from "./clock";
export { Device, register } from "./device";
export { FlagOption, NumberOption, option, TextOption } from "./option";
export * from "./virtio";
