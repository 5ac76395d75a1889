// The part of the WebAssembly JavaScript API that Bulkhead uses; TypeScript's comes with the DOM.

declare namespace WebAssembly {
  type Exports = Record<string, unknown>;
  type ImportedFunction = (...parameters: never[]) => number;
  type Imports = Record<string, Record<string, ImportedFunction>>;

  class Module {
    constructor(bytes: Uint8Array<ArrayBuffer>);
    static exports(module: Module): { name: string; kind: string }[];
    static imports(module: Module): { module: string; name: string; kind: string }[];
    static customSections(module: Module, name: string): ArrayBuffer[];
  }

  class Instance {
    constructor(module: Module, imports?: Imports);
    readonly exports: Exports;
  }

  class Global {
    constructor(descriptor: { value: "i32" | "f64"; mutable: boolean }, value: number);
    value: number;
  }

  class Table {
    constructor(descriptor: { element: "anyfunc"; initial: number });
    set(index: number, value: unknown): void;
  }

  class Memory {
    constructor(descriptor: { initial: number; maximum: number });
    readonly buffer: ArrayBuffer;
    grow(pages: number): number;
  }
}
