import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { defineConfig } from "tsdown"
import { builtToolsFile } from "./src/mcp/built-tools.ts"
import { builtTools } from "./src/mcp/listed-tools.ts"
import { tools } from "./tools/index.ts"

const outDir = fileURLToPath(new URL("dist", import.meta.url))

/**
 * One program in a directory: all libraries inside, and a chunk for whatever a role loads when it
 * needs it.
 */
export default defineConfig({
  entry: { main: "src/main.ts" },
  format: "esm",
  platform: "node",
  target: "node24",
  outDir,
  fixedExtension: false,
  dts: false,
  sourcemap: false,
  logLevel: "warn",
  deps: { alwaysBundle: [/./], onlyBundle: false },
  // `ws` asks for these where Node looks for modules: in every directory above, where somebody else
  // may put one.
  define: { "process.env.WS_NO_BUFFER_UTIL": '"1"', "process.env.WS_NO_UTF_8_VALIDATE": '"1"' },
  // As the MCP SDK's server writes it; mcp's memory is bounded.
  alias: {
    "../validation/ajv-provider.js": fileURLToPath(
      new URL("src/mcp/no-validator.ts", import.meta.url),
    ),
  },
  hooks: {
    "build:done": () => {
      writeFileSync(join(outDir, builtToolsFile), builtTools(tools))
      // Node asks no package.json above it, which somebody else may write, how to read these files.
      writeFileSync(join(outDir, "package.json"), JSON.stringify({ type: "module" }))
    },
  },
})
