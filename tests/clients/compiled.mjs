// TypeScript that was generated: compiles it as strictly as the compiler can, together with a program that uses it, and runs that.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const PACKAGES = fileURLToPath(new URL("node_modules", import.meta.url));

const OPTIONS = {
  compilerOptions: {
    strict: true,
    noUncheckedIndexedAccess: true,
    noImplicitReturns: true,
    module: "nodenext",
    target: "es2023",
    lib: ["es2023", "dom", "dom.iterable"],
    types: ["node"],
    outDir: "compiled",
  },
  include: ["*.ts"],
};

/** Runs `node` in `folder`; ends this program if it fails. */
function node(folder, ...args) {
  const { status, signal } = spawnSync(process.execPath, args, { cwd: folder, stdio: "inherit" });
  if (status !== 0) throw new Error(`${args.join(" ")} ended with ${signal ?? status}`);
}

/** Compiles `files`, texts by their names, in a folder that exists for as long as this takes, and runs `main` of them. */
export function compileAndRun(files, main) {
  const folder = mkdtempSync(join(tmpdir(), "millrace-client-"));
  try {
    symlinkSync(PACKAGES, join(folder, "node_modules"));
    writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(OPTIONS));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    node(folder, join(PACKAGES, "typescript/bin/tsc"), "--project", ".");
    node(folder, join("compiled", main));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
