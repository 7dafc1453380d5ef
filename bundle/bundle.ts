import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { packExtension } from "@anthropic-ai/mcpb"
import about from "../package.json" with { type: "json" }
import { serverInfo } from "../src/mcp/about.ts"
import { promptTemplates } from "../src/mcp/prompts.ts"
import { tools } from "../tools/index.ts"

/**
 * Makes the MCPB bundle, which a person installs in Claude Desktop: the built program, and a
 * manifest that says how to start it.
 */

const root = fileURLToPath(new URL("..", import.meta.url))

/** What a person may say in the app's form, by the variable that it becomes. */
const settings = {
  BLACKBOX5_CODE_ROOT: {
    type: "directory",
    title: "Code root",
    description:
      "The checkout that agents work in: a RALF layout, or any git repository. Not needed for a control plane elsewhere.",
  },
  BLACKBOX5_STATE: {
    type: "directory",
    title: "State directory",
    description: "Where the database, the logs and the token are. Empty: ~/.local/state/blackbox5.",
  },
  BLACKBOX5_LOG: {
    type: "string",
    title: "Log level",
    description: "Of the control plane that is started: debug, info, warn or error.",
    default: "info",
  },
  BLACKBOX5_URL: {
    type: "string",
    title: "Control plane elsewhere",
    description:
      "Its address, for example https://fleet.example.com. Empty: the one of this machine, which runs agents on Linux only.",
  },
  BLACKBOX5_TOKEN: {
    type: "string",
    title: "Token",
    description:
      "For the control plane elsewhere; its admin makes one with blackbox5 create-token.",
    sensitive: true,
  },
} as const
const keyOf = (variable: string): string => variable.replace("BLACKBOX5_", "").toLowerCase()

const manifest = {
  manifest_version: "0.3",
  name: about.name,
  display_name: serverInfo.title,
  version: about.version,
  description: about.description,
  author: { name: about.author },
  license: about.license,
  server: {
    type: "node",
    entry_point: "server/index.js",
    mcp_config: {
      command: "node",
      args: [`\${__dirname}/server/index.js`],
      env: Object.fromEntries(
        Object.keys(settings).map((name) => [name, `\${user_config.${keyOf(name)}}`]),
      ),
    },
  },
  // What only people on the command line have is in no MCP server.
  tools: tools
    .filter(({ toolset }) => toolset !== "admin")
    .map(({ name, description }) => ({ name, description })),
  prompts: promptTemplates((argument) => `\${arguments.${argument}}`),
  compatibility: { platforms: ["darwin", "linux"], runtimes: { node: about.engines.node } },
  user_config: Object.fromEntries(
    Object.entries(settings).map(([name, option]) => [keyOf(name), { required: false, ...option }]),
  ),
}

/**
 * Writes the bundle of what is built into a directory. Gives its path. @throws when the manifest is
 * not valid.
 */
export async function makeBundle(directory: string): Promise<string> {
  const staged = mkdtempSync(join(tmpdir(), "blackbox5-bundle-"))
  const path = join(directory, `${about.name}-${about.version}.mcpb`)
  try {
    cpSync(join(root, "dist"), join(staged, "server"), { recursive: true })
    cpSync(join(root, "bundle/index.js"), join(staged, "server/index.js"))
    cpSync(join(root, "LICENSE"), join(staged, "LICENSE"))
    writeFileSync(join(staged, "server/package.json"), `${JSON.stringify({ type: about.type })}\n`)
    writeFileSync(join(staged, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`)
    mkdirSync(directory, { recursive: true })
    if (!(await packExtension({ extensionPath: staged, outputPath: path, silent: true })))
      throw new Error(
        "The bundle could not be packed: `mcpb validate` says what is wrong with its manifest.",
      )
  } finally {
    rmSync(staged, { recursive: true })
  }
  return path
}

if (import.meta.main) process.stdout.write(`${await makeBundle(join(root, "build"))}\n`)
