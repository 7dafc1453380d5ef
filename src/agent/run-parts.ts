import { randomBytes } from "node:crypto"
import type { Beat } from "../core/beat.ts"
import type { Endpoint } from "../core/endpoint.ts"
import type { Mail } from "../core/mail.ts"
import type { ClaudeSearch } from "../host/find-claude.ts"
import { createClaudeProgram } from "./claude-program.ts"
import { createClaudeFinder } from "./claude-watch.ts"
import { createRunDisk, type RunDisk } from "./disk-retry.ts"
import { createFleetLink, type FleetLink } from "./fleet-link.ts"
import { createHooks, type Hooks } from "./hooks.ts"
import { createIterations, type Iterations } from "./iterations.ts"
import { type AgentServers, createAgentServers } from "./mcp-servers.ts"
import { createRunActivity, type RunActivity } from "./run-activity.ts"
import { grantedTurn, isFrozen, type RunInput, type RunState } from "./run-state.ts"
import { sinceBootMs } from "./running-time.ts"
import { settingsFor } from "./settings.ts"
import type { SupervisedRun } from "./supervised-run.ts"
import { createTurnEnd, type TurnEnd } from "./turn-end.ts"
import { createTurnFiles, type TurnFiles } from "./turn-files.ts"
import { createWorkspace, type Workspace } from "./workspace.ts"

/** What acts for one run, put together. Which of it acts when is decided in `run-step.ts`. */
export interface RunParts {
  readonly link: FleetLink
  readonly disk: RunDisk
  readonly servers: AgentServers
  readonly iterations: Iterations
  readonly files: TurnFiles
  readonly turnEnd: TurnEnd
  readonly workspace: Workspace
  readonly hooks: Hooks
  readonly activity: RunActivity
  /** An iteration is over, as its claude shim or its processes show. */
  iterationEnded(id: string, code: number, ms?: number): void
}

export interface RunPartsOptions {
  readonly found: SupervisedRun
  readonly endpoint: Endpoint
  /** The environment of this process. */
  readonly environment: NodeJS.ProcessEnv
  state(): RunState
  take(input: RunInput): void
  /** Nobody answers at the gateway's socket: called after some failed attempts. */
  revive(): void
  /** Asks the control plane for the MCP servers of this instance. */
  askServers(): Promise<unknown>
  /** The port's number, once it is open. */
  port(): number
  /** The first lines that the loop and its claude printed since then. */
  printed(sinceMs: number): readonly string[]
}

/** Agents that met a limit together try again within a minute of one another. */
const jitterMsMax = 60_000

export const nowMs = (): number => Date.now()

export function createRunParts(options: RunPartsOptions): RunParts {
  const { found, environment, state, take, revive, askServers } = options
  const { directory, run } = found
  const link = createFleetLink({
    endpoint: options.endpoint,
    spooled: directory.get("spool")?.frames ?? [],
    keepSpool: (frames) => void disk.set("spool", { frames: [...frames] }),
    nowMs,
    composeBeat: () => composeBeat(run.place, state(), { iterations, workspace, activity, hooks }),
    directive: (directive) =>
      take({ type: "directive", directive, runningTurn: iterations.turn()?.id }),
    mail(mail: Mail) {
      hooks.mail(mail)
      link.changed()
    },
    replaced: () => take({ type: "replaced" }),
    away: revive,
  })
  const disk = createRunDisk(directory, link.warn)
  const activity = createRunActivity(link.changed)
  const { stateDirectory } = directory
  const servers = createAgentServers({
    run,
    stateDirectory,
    environment,
    ask: askServers,
    warn: link.warn,
  })
  const workspace = createWorkspace({
    run,
    directory: directory.path,
    nowMs,
    changed: link.changed,
    warn: link.warn,
  })
  const claude = createClaudeFinder(run)
  const iterations = createRunIterations(options, { link, disk, search: claude.search })
  iterations.time.still(isFrozen(state()))
  const files = createTurnFiles(directory)
  if (!iterations.turn()) files.clear()
  const iterationEnded: RunParts["iterationEnded"] = (id, code, ms) => {
    if (iterations.turn()?.id === id) files.clear()
    iterations.ended(id, code, ms)
    void iterations.reconcile()
    void servers.iterationOver()
  }
  const turnEnd = createTurnEnd({
    search: found.search,
    below: found.below,
    self: found.self,
    program: createClaudeProgram(),
    loop: () => directory.get("loop"),
    claude: claude.path,
    running: iterations.turn,
    isFrozen: () => isFrozen(state()),
    warn: link.warn,
    ended: iterationEnded,
  })
  const hooks = createRunHooks(state, { link, iterations, activity })
  return {
    link,
    disk,
    servers,
    iterations,
    files,
    turnEnd,
    workspace,
    hooks,
    activity,
    iterationEnded,
  }
}

function composeBeat(
  place: string,
  state: RunState,
  parts: Pick<RunParts, "iterations" | "workspace" | "activity" | "hooks">,
): Beat {
  const { iterations, workspace, hooks } = parts
  const atMs = nowMs()
  const news = hooks.news()
  const activity = parts.activity.now()
  return {
    place,
    frozen: isFrozen(state),
    ...iterations.report(grantedTurn(state)),
    ...workspace.report(),
    ...(activity && { activity }),
    ...(news && { news }),
    atMs,
    sentAtSteadyMs: sinceBootMs(),
  }
}

function createRunIterations(
  { found, take, port, printed }: RunPartsOptions,
  { link, disk, search }: Pick<RunParts, "link" | "disk"> & { search(): ClaudeSearch },
): Iterations {
  const { directory, run, predecessor, token } = found
  return createIterations({
    directory,
    diskRetry: disk,
    adopted: predecessor !== undefined,
    run,
    nowMs,
    search: found.search,
    steadyMs: sinceBootMs,
    claude: search,
    granted: () => ({
      settings: settingsFor({ port: port(), token }),
      ...(run.model !== undefined && { model: run.model }),
    }),
    emit: link.emit,
    changed: () => take({ type: "iterationsChanged" }),
    zone: () => Intl.DateTimeFormat().resolvedOptions().timeZone,
    jitterMs: () => Math.round(Math.random() * jitterMsMax),
    printed,
    over: (end) => take({ type: "iterationEnded", end }),
  })
}

function createRunHooks(
  state: () => RunState,
  { link, iterations, activity }: Pick<RunParts, "link" | "iterations" | "activity">,
): Hooks {
  return createHooks({
    nowMs,
    nonce: () => randomBytes(6).toString("hex"),
    directive: () => state().lastDirective ?? { orders: [] },
    turn: iterations.turn,
    toldBefore: iterations.toldBefore,
    keep: iterations.keep,
    delivered: link.inheritedReceipts(),
    receipt: link.receipt,
    ...iterations.word,
    stopped: iterations.time.stopped,
    goesOn: iterations.time.goesOn,
    standstillTold: iterations.time.standstillTold,
    transcript: iterations.transcript,
    activity: activity.set,
  })
}
