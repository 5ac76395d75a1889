import { fileURLToPath } from "node:url";

/** The program of the processes that these tests confine. */
export const childProgram = fileURLToPath(new URL("./child.js", import.meta.url));
