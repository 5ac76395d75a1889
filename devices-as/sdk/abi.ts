// The exports of every device module, as wit/ describes them; compiled beside the author's file.
// The compiler adds `memory`, and `_initialize`, which runs the top level of all files.
export { activate, attention, configure, describe, reserve } from "./entry";
export { reset, serve, set, start, wake } from "./entry";

// Nothing refers to it but the option `use` of asconfig.json.
import "./abort";
