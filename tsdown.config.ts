import { defineConfig } from "tsdown"

/** One program in a directory: all libraries inside, and a chunk for whatever a role loads when it needs it. */
export default defineConfig({
  entry: { main: "src/main.ts" },
  format: "esm",
  platform: "node",
  target: "node24",
  outDir: "dist",
  fixedExtension: false,
  dts: false,
  sourcemap: false,
  deps: { alwaysBundle: [/./], onlyBundle: false },
})
