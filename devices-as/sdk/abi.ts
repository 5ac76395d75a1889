// The exports of every device module, as wit/ describes them; compiled beside the author's file.
// The compiler adds `memory`, and `_initialize`, which runs the top level of all files.
export { activate, attention, configure, describe, reserve, reset, serve, wake } from "./entry";
