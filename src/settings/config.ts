import { createHash, randomUUID } from "node:crypto"
import { homedir, userInfo } from "node:os"
import { join, resolve } from "node:path"
import { lastingOf } from "../core/environment.ts"
import { Fault } from "../core/faults.ts"
import { type Offer, type Toolset, toolsets } from "../core/tool.ts"
import { compileCacheIn } from "./compile-cache.ts"

/**
 * Where things are. Nothing else reads settings from process.env. Flags win over the environment,
 * which wins over the defaults.
 */
export interface Config {
  /** The checkout with `2-engine` and `5-project-memory`, if it was named. */
  readonly codeRoot: string | undefined
  /**
   * The project of the client that started this process. The code root is searched upward from
   * there, then from the current directory.
   */
  readonly clientProject: string | undefined
  /** Directory of `policy.yaml`. */
  readonly configDirectory: string
  /** Holds database, run directories, socket and keys; mode 0700. */
  readonly stateDirectory: string
  readonly socketPath: string
  /** The TCP address to listen on. Off loopback, other machines can connect. */
  readonly host: string
  /** A port that the user named must be free; the default may be replaced. */
  readonly port: { readonly number: number; readonly demanded: boolean }
  /** A control plane elsewhere, and its bearer. With it, none is started here. */
  readonly remote: { readonly url: string; readonly bearer: string } | undefined
  /** The tools that `serve`, or an MCP server over stdio, offers. */
  readonly offer: Offer
  readonly logLevel: string
  /** A supervisor restarted this serve, so no person is there. */
  readonly revived: boolean
}
/** Set by a supervisor for the serve that it restarts. */
export const revivedVariable = "BLACKBOX5_REVIVED"
export interface Flags {
  readonly host?: string | undefined
  readonly readOnly?: boolean | undefined
  /** Comma-separated. */
  readonly toolsets?: string | undefined
  readonly codeRoot?: string | undefined
  readonly port?: string | undefined
}

export const defaultPort = 7505
const loopback = "127.0.0.1"
/** @throws Invalid for a user without one, as in some containers. */
function home(): string {
  try {
    return homedir()
  } catch (error) {
    throw new Fault(
      "Invalid",
      "This user has no home directory.",
      "Set HOME, or XDG_STATE_HOME and XDG_CONFIG_HOME, or BLACKBOX5_STATE and BLACKBOX5_CONFIG.",
      error,
    )
  }
}
/** The user that this process runs as; the number if the system has no name for it. */
export function userName(): string {
  try {
    return userInfo().username
  } catch {
    return `uid ${process.getuid?.() ?? "unknown"}`
  }
}
/** The state directory without BLACKBOX5_STATE. */
export const defaultStateDirectory = (env: NodeJS.ProcessEnv = process.env): string =>
  join(env.XDG_STATE_HOME || join(home(), ".local/state"), "blackbox5")
/**
 * Where a program that its host may replace is copied to. Not below the state directory, which is
 * hidden from loops in namespaces.
 */
export const programsDirectory = (env: NodeJS.ProcessEnv = process.env): string =>
  join(env.XDG_DATA_HOME || join(home(), ".local/share"), "blackbox5")
/** Where a user's own commands belong (XDG base directory specification). */
export const userBinDirectory = (): string => join(home(), ".local/bin")
/** Undefined for a user without a home directory. */
function ifHasHome<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch {
    return undefined
  }
}
/** Where this installation and its settings are, which agents must not change. */
export const installationOf = (
  { configDirectory }: Pick<Config, "configDirectory">,
  [node, main]: readonly [string, string],
  env: NodeJS.ProcessEnv = process.env,
) => ({
  configDirectory,
  node,
  main,
  programsDirectory: ifHasHome(() => programsDirectory(env)),
  launcher: ifHasHome(() => join(userBinDirectory(), "blackbox5")),
  compileCache: ifHasHome(() => compileCacheIn(home())),
  home: ifHasHome(home),
  runtimeDirectory: env.XDG_RUNTIME_DIR,
})
/** The name of the instance that this process runs in, if any. */
export const instanceHere = (env: NodeJS.ProcessEnv = process.env): string | undefined =>
  env.BLACKBOX5_AGENT_URL && env.BLACKBOX5_AGENT_TOKEN
    ? (env.BLACKBOX5_AGENT_NAME ?? "unknown")
    : undefined

/**
 * Inside an instance this is always its supervisor's port, which adds the instance's own
 * credential.
 */
function readRemote(env: NodeJS.ProcessEnv): Config["remote"] {
  const inside = instanceHere(env) !== undefined
  const url = inside ? env.BLACKBOX5_AGENT_URL : env.BLACKBOX5_URL
  const bearer = (inside ? env.BLACKBOX5_AGENT_TOKEN : env.BLACKBOX5_TOKEN) ?? ""
  return url ? { url: url.replace(/\/+$/, ""), bearer } : undefined
}

/** @throws Invalid for an unknown toolset, or an empty list. */
export function readOffer(
  flags: Pick<Flags, "readOnly" | "toolsets">,
  env: NodeJS.ProcessEnv = process.env,
): Offer {
  const list = flags.toolsets ?? (env.BLACKBOX5_TOOLSETS || undefined)
  const readOnly = flags.readOnly ?? env.BLACKBOX5_READ_ONLY === "1"
  if (list === undefined) return { readOnly }
  const names = list.split(",").map((one) => one.trim())
  const known = names.filter((one): one is Toolset => toolsets.some((toolset) => toolset === one))
  if (known.length === names.length) return { readOnly, toolsets: known }
  throw new Fault(
    "Invalid",
    `${JSON.stringify(list)} is not a list of toolsets.`,
    `Give --toolsets one or more of ${toolsets.join(", ")}, separated by commas.`,
  )
}
/** For a child: whoever restarts serve must offer no more than before, at the same address. */
export const boundsEnvironment = ({
  host,
  offer: { readOnly, toolsets: only },
}: Pick<Config, "host" | "offer">): Record<string, string> => ({
  ...(host !== loopback && { BLACKBOX5_HOST: host }),
  ...(readOnly && { BLACKBOX5_READ_ONLY: "1" }),
  ...(only && { BLACKBOX5_TOOLSETS: only.join(",") }),
})

/** Whether only this machine can reach an address. */
export const isLoopback = (host: string): boolean =>
  /^(?:localhost|127(?:\.\d{1,3}){3}|::1)$/i.test(host)

/**
 * An absolute path that git, mount tables, logs and shells can all handle. Control characters are
 * rejected because a line break ends a path in git's own files. Node turns bytes that are not UTF-8
 * into U+FFFD, which would name another file. @throws Invalid.
 */
function readPath(text: string, what: string): string {
  const path = resolve(text)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: this is what rejects them
  if (!/[\u0000-\u001f\u007f\ufffd]/.test(path)) return path
  throw new Fault(
    "Invalid",
    `The path of the ${what}, ${JSON.stringify(path)}, has control characters (such as a line break) or is not UTF-8.`,
    "Move it to another path. Spaces, umlauts, quotes, #, %, ?, : and the like are fine.",
  )
}

/** @throws Invalid for an invalid setting. */
export function readConfig(flags: Flags = {}, env: NodeJS.ProcessEnv = process.env): Config {
  const stateDirectory = readPath(
    env.BLACKBOX5_STATE || defaultStateDirectory(env),
    "state directory (BLACKBOX5_STATE)",
  )
  const portText = flags.port ?? env.BLACKBOX5_PORT
  const number = portText === undefined || portText === "" ? defaultPort : Number(portText)
  if (!Number.isInteger(number) || number < 0 || number > 65_535)
    throw new Fault(
      "Invalid",
      `"${portText}" is not a valid TCP port.`,
      "Give --port or BLACKBOX5_PORT a number from 0 (any free port) to 65535.",
    )
  const codeRoot = flags.codeRoot ?? (env.BLACKBOX5_CODE_ROOT || undefined)
  return {
    codeRoot:
      codeRoot === undefined
        ? undefined
        : readPath(codeRoot, "code root (--code-root, BLACKBOX5_CODE_ROOT)"),
    clientProject: env.CLAUDE_PROJECT_DIR ? resolve(env.CLAUDE_PROJECT_DIR) : undefined,
    configDirectory: readPath(
      env.BLACKBOX5_CONFIG || join(env.XDG_CONFIG_HOME || join(home(), ".config"), "blackbox5"),
      "configuration directory (BLACKBOX5_CONFIG)",
    ),
    stateDirectory,
    socketPath: join(stateDirectory, "serve.sock"),
    port: { number, demanded: Boolean(portText) },
    remote: readRemote(env),
    offer: readOffer(flags, env),
    host: flags.host ?? (env.BLACKBOX5_HOST || loopback),
    revived: env[revivedVariable] === "1",
    // On a terminal, people read the screen that serve prints; log lines are for log collectors.
    logLevel: env.BLACKBOX5_LOG || (process.stderr.isTTY ? "warn" : "info"),
  }
}

/** Where Claude Desktop keeps its settings. */
export const claudeDesktopFile = (
  env: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
): string =>
  join(
    platform === "darwin"
      ? join(home(), "Library/Application Support")
      : env.XDG_CONFIG_HOME || join(home(), ".config"),
    "Claude/claude_desktop_config.json",
  )

/**
 * The environment for what outlives the session that started it: `serve` and, through it, the
 * agents. core/environment.ts lists what is left out.
 */
export const lastingEnvironment = (env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv =>
  lastingOf(env)

/**
 * The same for a serve that a client starts, with the client's project: one of the places to look
 * for the code root.
 */
export const serveEnvironment = (env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv => ({
  ...lastingEnvironment(env),
  ...(env.CLAUDE_PROJECT_DIR && { CLAUDE_PROJECT_DIR: env.CLAUDE_PROJECT_DIR }),
})

/** Short, unguessable, unique: 48 random bits. */
export const newId = (prefix: string): string =>
  `${prefix}-${randomUUID().replaceAll("-", "").slice(0, 12)}`

/** SHA-256 in hex. */
export const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex")
