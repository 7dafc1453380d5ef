import { join } from "node:path"
import {
  fleetServer,
  type McpServer,
  type McpServers,
  mcpServersSchema,
  type StdioServer,
} from "../core/mcp-servers.ts"
import { oneLine } from "../core/view.ts"
import { instanceVariable } from "../host/processes.ts"
import type { RunFile } from "../run/run-directory.ts"
import type { Bridges } from "./bridge.ts"
import { agentNameVariable, agentTokenVariable, agentUrlVariable } from "./claude-shim.ts"
import { type ForwardContext, forward } from "./forward.ts"
import { findServerProgram, prepareServer, type ServerProgramOptions } from "./server-program.ts"
import type { PortAccess } from "./settings.ts"

/**
 * The MCP servers of an agent: the fleet's own, and those that people gave it. Those with secrets
 * stay on this side of the port.
 */

export interface AgentServers {
  /** What the claude shim gives claude as `--mcp-config`, as the control plane has it now. */
  configuration(access: PortAccess): Promise<string>
  /** A call to a server that stays behind the port. */
  call(c: ForwardContext, name: string): Promise<Response>
  /** Ends the processes that were started for an iteration. */
  iterationOver(): Promise<void>
}
export interface AgentServersOptions {
  readonly run: Pick<RunFile, "name" | "uid" | "place" | "directory" | "tree" | "environment">
  readonly stateDirectory: string
  /** The supervisor's own. */
  readonly environment: NodeJS.ProcessEnv
  /** Asks the control plane, which may be away. */
  ask(): Promise<unknown>
  warn(message: string): void
}

export function createAgentServers(options: AgentServersOptions): AgentServers {
  const { run, ask, warn } = options
  const outside = programOptions(options)
  let known: McpServers | undefined
  let warned = ""
  let bridges: Promise<Bridges> | undefined

  /**
   * What it was before where nobody answers: an iteration does not wait for a control plane that is
   * being started.
   */
  const refresh = async (): Promise<McpServers> => {
    const answer = await ask().catch(() => undefined)
    const parsed = mcpServersSchema.safeParse(answer).data
    known = parsed ? startable(parsed, outside) : (known ?? { servers: [], left: [] })
    const warning = known.left
      .map(({ name, why }) => `The MCP server ${name} is left out: ${why}.`)
      .join(" ")
    if (warning !== "" && warning !== warned) warn(warning)
    warned = warning
    return known
  }
  /** Made for one session of a server that stays behind the port. @throws where it cannot be. */
  const prepare = (name: string, at: StdioServer) => {
    const found = findServerProgram(at, outside)
    if ("why" in found) throw new Error(found.why)
    // Found, frozen and ended with the rest of the run.
    const env = { ...at.env, [instanceVariable]: `${run.uid}/${run.place}` }
    return prepareServer(name, { ...placed(at, run), env }, found.path, outside)
  }

  return {
    async configuration(access) {
      const { servers } = await refresh()
      const entries = servers.map((server) => [server.name, entryFor(server, run, access)] as const)
      return JSON.stringify({
        mcpServers: { ...Object.fromEntries(entries), [fleetServer]: fleetEntry(run, access) },
      })
    },
    async call(c, name) {
      // A successor takes calls of a claude to which its predecessor had given the server.
      if (!known) await refresh()
      const found = known?.servers.find((one) => one.name === name && one.secret)
      if (!found) return c.json({ error: `There is no MCP server ${oneLine(name, 80)}.` }, 404)
      const { at } = found
      if ("url" in at)
        return forward(c, {
          name: `The MCP server ${name}`,
          address: { url: at.url },
          headers: async () => at.headers,
        })
      bridges ??= import("./bridge.ts").then(({ createBridges }) => createBridges())
      return (await bridges).handle(c.req.raw, () => prepare(name, at))
    },
    async iterationOver() {
      if (bridges) await (await bridges).close()
    },
  }
}

type AgentRun = AgentServersOptions["run"]

const treeOf = ({
  tree,
  directory,
}: AgentRun): { path: string; project: string; repository?: string | undefined } =>
  tree ?? { path: directory, project: directory }

/** Where agents write, so that no program that gets a secret may be there. */
function programOptions({
  run,
  stateDirectory,
  environment,
}: AgentServersOptions): ServerProgramOptions {
  const { path, project, repository } = treeOf(run)
  const codeRoot = run.environment?.RALF_BLACKBOX5_DIR
  return {
    stateDirectory,
    environment,
    written: [
      path,
      project,
      run.directory,
      join(stateDirectory, "trees"),
      join(stateDirectory, "clones"),
      ...[repository, codeRoot].filter((one) => one !== undefined),
    ],
  }
}

/** Without those whose program is nowhere, or where agents could write it. */
function startable({ servers, left }: McpServers, outside: ServerProgramOptions): McpServers {
  const without = servers.flatMap(({ name, secret, at }) => {
    const found = secret && "command" in at ? findServerProgram(at, outside) : undefined
    return found && "why" in found ? [{ name, why: found.why }] : []
  })
  return {
    servers: servers.filter((one) => !without.some(({ name }) => name === one.name)),
    left: [...left, ...without],
  }
}

/** Its arguments for this agent's tree and project. */
function placed(at: StdioServer, run: AgentRun): StdioServer {
  const { path, project } = treeOf(run)
  const args = at.args.map((text) =>
    text.replaceAll("{tree}", path).replaceAll("{project}", project),
  )
  return { ...at, args }
}

function entryFor(
  { name, secret, at }: McpServer,
  run: AgentRun,
  { port, token }: PortAccess,
): Record<string, unknown> {
  if (secret)
    return {
      type: "http",
      url: `http://127.0.0.1:${port}/mcp/${name}`,
      headers: { Authorization: `Bearer ${token}` },
    }
  return "url" in at ? { type: "http", ...at } : placed(at, run)
}

const fleetEntry = (run: AgentRun, { port, token }: PortAccess): Record<string, unknown> => ({
  command: process.execPath,
  args: [process.argv[1] ?? "", "mcp"],
  env: {
    [agentUrlVariable]: `http://127.0.0.1:${port}`,
    [agentTokenVariable]: token,
    [agentNameVariable]: run.name,
  },
  // Claude waits for this server before its first request (without, at most 2 s), and shows its
  // tools without a search for them.
  alwaysLoad: true,
})
