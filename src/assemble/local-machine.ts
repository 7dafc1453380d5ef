import { createCodeRoots } from "../adapters/local/code-roots.ts"
import { createKeptTrees } from "../adapters/local/kept-trees.ts"
import { createLocalRuntime } from "../adapters/local/runtime.ts"
import { createTrees } from "../adapters/local/trees.ts"
import type { Credentials } from "../api/credentials.ts"
import { secretsVariable } from "../core/mcp-servers.ts"
import type { KeptTrees, Projects, Runtime } from "../core/ports.ts"
import { systemClock } from "../host/clock.ts"
import { findClaude } from "../host/find-claude.ts"
import { codeRootOf } from "../host/find-code-root.ts"
import { guard, makeGuarded } from "../host/guarded.ts"
import { type Isolation, probeIsolation } from "../host/isolation-probe.ts"
import {
  boundsEnvironment,
  type Config,
  installationOf,
  lastingEnvironment,
} from "../settings/config.ts"
import { type OutsideServersFile, secretsOf } from "../settings/outside-servers.ts"
import type { PolicyFile } from "../settings/policy.ts"

/** What this machine's files and processes give to the control plane. */
export interface LocalMachine {
  readonly codeRoot: string | undefined
  readonly projects: Projects
  readonly keptTrees: KeptTrees
  readonly runtime: Runtime
  /** What holds the processes of a run that starts now. */
  isolation(): Isolation
  admitCodeRoot(path: string): string | undefined
}

export interface LocalMachineOptions {
  readonly config: Config
  /** argv that runs this program: node, its flags, main.js. */
  readonly entry: readonly string[]
  readonly policy: PolicyFile
  readonly outside: OutsideServersFile
  readonly credentials: Pick<Credentials, "mint">
  readonly strongest: Isolation
  report(name: string, error: unknown): void
}

/**
 * Each instance has one supervisor, which makes little garbage: a small young generation keeps it
 * from growing (3 MiB at once, 16 in time).
 */
const supervisorFlags = ["--max-semi-space-size=1"]

const nodeAndMain = ([node = process.execPath, ...main]: readonly string[]) => ({ node, main })

/** The strongest isolation that works here, whatever the policy says. */
export function findIsolation(config: Config, entry: readonly string[]): Promise<Isolation> {
  const { node, main } = nodeAndMain(entry)
  const installation = installationOf(config, [node, main.at(-1) ?? node])
  makeGuarded(installation)
  return probeIsolation({
    stateDirectory: config.stateDirectory,
    guarded: guard(installation),
  })
}

export function openLocalMachine(
  { config, entry, policy, outside, credentials, strongest, report }: LocalMachineOptions,
  signal: AbortSignal,
): LocalMachine {
  const { stateDirectory } = config
  const { node, main } = nodeAndMain(entry)
  const codeRoot = codeRootOf(config)
  const codeRoots = createCodeRoots({
    stateDirectory,
    first: codeRoot,
    loops: () => policy.current().loops,
    claude: () => policy.current().claude,
    builtIn: [...entry, "loop"],
  })
  const trusted = () => policy.current().trustedFilters
  const keptTrees = createKeptTrees({ stateDirectory, trusted, nowMs: systemClock.nowMs })
  const trees = createTrees({
    stateDirectory,
    codeRoots,
    trusted,
    kept: keptTrees,
    repositories: () => policy.current().repositories,
  })
  const isolation = (): Isolation =>
    policy.current().isolation === "off"
      ? { kind: "process tree", why: "policy.yaml turns isolation off." }
      : strongest
  const runtime = createLocalRuntime(
    {
      stateDirectory,
      socketPath: config.socketPath,
      codeRoots,
      trees,
      clock: systemClock,
      supervisor: [node, ...supervisorFlags, ...main, "agent"],
      environment: () => supervisorEnvironment(config, codeRoot, outside),
      isolation: () => isolation().kind,
      credential: credentials.mint,
      report,
    },
    signal,
  )
  const projects: Projects = {
    list: async (root) => codeRoots.list(root),
    shared: async () => codeRoots.shared(),
    named: async (root) => codeRoots.named(root),
    rootOf: async ({ project, repository }, callers) =>
      repository === undefined ? codeRoots.find(project, callers) : codeRoots.usual(callers),
    async foresee(spec, others) {
      // An instance that already exists waits for a missing claude; a spawn fails at once.
      findClaude(policy.current().claude)
      return trees.foresee(spec, others)
    },
  }
  return { codeRoot, projects, keptTrees, runtime, isolation, admitCodeRoot: codeRoots.admit }
}

/** A supervisor that finds no serve starts one, with the same settings as this one. */
function supervisorEnvironment(
  config: Config,
  codeRoot: string | undefined,
  outside: OutsideServersFile,
): NodeJS.ProcessEnv {
  const environment: NodeJS.ProcessEnv = {
    ...lastingEnvironment(),
    ...boundsEnvironment(config),
    BLACKBOX5_STATE: config.stateDirectory,
    BLACKBOX5_CONFIG: config.configDirectory,
    // It keeps the secrets itself, for a serve that it starts, and hands them to no loop.
    [secretsVariable]: secretsOf(outside.current()).join(","),
  }
  if (codeRoot !== undefined) environment.BLACKBOX5_CODE_ROOT = codeRoot
  if (config.port.demanded) environment.BLACKBOX5_PORT = String(config.port.number)
  return environment
}
