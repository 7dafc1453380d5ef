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
 * Makes the MCPB bundle, which people install in Claude Desktop: the built program, and a manifest
 * that describes it.
 */

const root = fileURLToPath(new URL("..", import.meta.url))

/** The fields of the app's form, by the environment variable that each becomes. */
const settings = {
  BLACKBOX5_CODE_ROOT: {
    type: "directory",
    title: "Code root",
    description:
      "The checkout in which agents work: a RALF code root, or any git repository. Leave it empty if the control plane is elsewhere.",
  },
  BLACKBOX5_STATE: {
    type: "directory",
    title: "State directory",
    description: "Holds the database, the logs and the token. Empty: ~/.local/state/blackbox5.",
  },
  BLACKBOX5_LOG: {
    type: "string",
    title: "Log level",
    description: "For the control plane that is started: debug, info, warn or error.",
    default: "info",
  },
  BLACKBOX5_URL: {
    type: "string",
    title: "Control plane elsewhere",
    description:
      "Its address, for example https://fleet.example.com. Empty: the one on this machine, which can run agents only on Linux.",
  },
  BLACKBOX5_TOKEN: {
    type: "string",
    title: "Token",
    description:
      "For the control plane elsewhere. Its admin creates one with `blackbox5 create-token`.",
    sensitive: true,
  },
} as const
const settingKey = (variable: string): string => variable.replace("BLACKBOX5_", "").toLowerCase()

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
        Object.keys(settings).map((name) => [name, `\${user_config.${settingKey(name)}}`]),
      ),
    },
  },
  // Admin tools are for the command line and REST only.
  tools: tools
    .filter(({ toolset }) => toolset !== "admin")
    .map(({ name, description }) => ({ name, description })),
  prompts: promptTemplates((argument) => `\${arguments.${argument}}`),
  compatibility: { platforms: ["darwin", "linux"], runtimes: { node: about.engines.node } },
  user_config: Object.fromEntries(
    Object.entries(settings).map(([name, option]) => [
      settingKey(name),
      { required: false, ...option },
    ]),
  ),
}

/**
 * Packs what is built into a directory. Resolves with the bundle's path. @throws when it is
 * invalid.
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
        "Could not pack the bundle. Run `mcpb validate` to see what is wrong with its manifest.",
      )
  } finally {
    rmSync(staged, { recursive: true })
  }
  return path
}

if (import.meta.main) process.stdout.write(`${await makeBundle(join(root, "build"))}\n`)
