import { fileURLToPath } from "node:url"
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
  logLevel: "warn",
  deps: { alwaysBundle: [/./], onlyBundle: false },
  // As the MCP SDK's server writes it; mcp's memory is bounded.
  alias: { "../validation/ajv-provider.js": fileURLToPath(new URL("src/mcp/no-validator.ts", import.meta.url)) },
})
