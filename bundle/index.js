// The entry of the MCPB bundle. Hosts differ in process.argv (Claude Desktop loads this file into a process of its own), and
// leave the manifest's placeholder in a variable that the user left empty.
import { fileURLToPath } from "node:url"

for (const [name, value] of Object.entries(process.env))
  if (/^\$\{user_config\.\w+\}$/.test(value ?? "")) delete process.env[name]
process.argv = [process.execPath, fileURLToPath(new URL("main.js", import.meta.url)), "mcp"]
await import("./main.js")
