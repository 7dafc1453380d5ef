import { createHash, randomUUID } from "node:crypto"
import { homedir, userInfo } from "node:os"
import { join, resolve } from "node:path"
import { lastingOf } from "../core/environment.ts"
import { Fault } from "../core/faults.ts"
import { type Offer, type Toolset, toolsets } from "../core/tool.ts"
import { compileCacheIn } from "./compile-cache.ts"

/**
 * Where things are. The only reader of process.env for settings; flags come first, then the
 * environment, then the defaults.
 */
export interface Config {
  /** The checkout with `2-engine` and `5-project-memory`, if one was named. */
  readonly codeRoot: string | undefined
  /**
   * The project of the client that started this: otherwise it is looked for upward from there, then
   * from the current directory.
   */
  readonly clientProject: string | undefined
  /** Directory of `policy.yaml`. */
  readonly configDirectory: string
  /** Directory (0700) of database, run directories, socket, keys. */
  readonly stateDirectory: string
  readonly socketPath: string
  /** The address that TCP connections come to. Off loopback those are other machines'. */
  readonly host: string
  /** TCP port; a demand when given, else a preference. */
  readonly port: { readonly number: number; readonly demanded: boolean }
  /** A control plane elsewhere, with its bearer: then none is started here. */
  readonly remote: { readonly url: string; readonly bearer: string } | undefined
  /** What serve, or an MCP server over stdio, offers. */
  readonly offer: Offer
  readonly logLevel: string
  /** A supervisor has started this serve again: no person is there. */
  readonly revived: boolean
}
/** Set by a supervisor for the serve that it starts again. */
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
/** @throws Invalid for a user that has none, as in some containers. */
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
/** Of the user that this process runs as; its number where the system knows no name. */
export function userName(): string {
  try {
    return userInfo().username
  } catch {
    return `uid ${process.getuid?.() ?? "unknown"}`
  }
}
/** Where state is when nobody says otherwise. */
export const defaultStateDirectory = (env: NodeJS.ProcessEnv = process.env): string =>
  join(env.XDG_STATE_HOME || join(home(), ".local/state"), "blackbox5")
/**
 * Where a program that its host may replace is copied to. Not below the state directory, which
 * loops in namespaces do not see.
 */
export const programsDirectory = (env: NodeJS.ProcessEnv = process.env): string =>
  join(env.XDG_DATA_HOME || join(home(), ".local/share"), "blackbox5")
/** Where a user's own commands are (the XDG base directory specification). */
export const userBinDirectory = (): string => join(home(), ".local/bin")
/** Undefined for a user that has no home directory. */
function ifAtHome<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch {
    return undefined
  }
}
/**
 * Where this installation and its settings are: what agents must not change. `program`: node and
 * the main file.
 */
export const installationOf = (
  { configDirectory }: Pick<Config, "configDirectory">,
  [node, main]: readonly [string, string],
  env: NodeJS.ProcessEnv = process.env,
) => ({
  configDirectory,
  node,
  main,
  programsDirectory: ifAtHome(() => programsDirectory(env)),
  launcher: ifAtHome(() => join(userBinDirectory(), "blackbox5")),
  compileCache: ifAtHome(() => compileCacheIn(home())),
  home: ifAtHome(home),
  runtimeDirectory: env.XDG_RUNTIME_DIR,
})
/** The name of the instance that this process belongs to, if it does. */
export const instanceHere = (env: NodeJS.ProcessEnv = process.env): string | undefined =>
  env.BLACKBOX5_AGENT_URL && env.BLACKBOX5_AGENT_TOKEN
    ? (env.BLACKBOX5_AGENT_NAME ?? "unknown")
    : undefined

/**
 * Inside an instance that is its supervisor's port, whatever else is said: there the instance's own
 * credential is added.
 */
function remoteOf(env: NodeJS.ProcessEnv): Config["remote"] {
  const inside = instanceHere(env) !== undefined
  const url = inside ? env.BLACKBOX5_AGENT_URL : env.BLACKBOX5_URL
  const bearer = (inside ? env.BLACKBOX5_AGENT_TOKEN : env.BLACKBOX5_TOKEN) ?? ""
  return url ? { url: url.replace(/\/+$/, ""), bearer } : undefined
}

/** @throws Invalid for a set that there is not, and for none at all. */
export function readOffer(
  flags: Pick<Flags, "readOnly" | "toolsets">,
  env: NodeJS.ProcessEnv = process.env,
): Offer {
  const said = flags.toolsets ?? (env.BLACKBOX5_TOOLSETS || undefined)
  const readOnly = flags.readOnly ?? env.BLACKBOX5_READ_ONLY === "1"
  if (said === undefined) return { readOnly }
  const asked = said.split(",").map((one) => one.trim())
  const known = asked.filter((one): one is Toolset => toolsets.some((toolset) => toolset === one))
  if (known.length === asked.length) return { readOnly, toolsets: known }
  throw new Fault(
    "Invalid",
    `${JSON.stringify(said)} is no list of toolsets.`,
    `Give --toolsets some of ${toolsets.join(", ")}, with commas and no blanks.`,
  )
}
/**
 * Tells a child what to offer, and where: whoever starts serve again must start one that offers no
 * more, at the same address.
 */
export const boundsEnvironment = ({
  host,
  offer: { readOnly, toolsets: only },
}: Pick<Config, "host" | "offer">): Record<string, string> => ({
  ...(host !== loopback && { BLACKBOX5_HOST: host }),
  ...(readOnly && { BLACKBOX5_READ_ONLY: "1" }),
  ...(only && { BLACKBOX5_TOOLSETS: only.join(",") }),
})

/** Whether only this machine reaches an address. */
export const isLoopback = (host: string): boolean =>
  /^(?:localhost|127(?:\.\d{1,3}){3}|::1)$/i.test(host)

/**
 * An absolute path that git, mount tables, logs and shells can all carry. Control characters are
 * refused: a line break ends a path in git's own files. U+FFFD is what node makes of bytes that are
 * not UTF-8, so it would lead somewhere else. @throws Invalid.
 */
function readPath(text: string, what: string): string {
  const path = resolve(text)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: refusing them is what this is for
  if (!/[\u0000-\u001f\u007f\ufffd]/.test(path)) return path
  throw new Fault(
    "Invalid",
    `The ${what} is ${JSON.stringify(path)}: its path has a line break or another control character, or is not UTF-8.`,
    "Move it to a path without them; spaces, umlauts, quotes, #, %, ?, : and the like are fine.",
  )
}

/** @throws Invalid when a setting cannot be what it says. */
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
      `"${portText}" is not a TCP port.`,
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
    remote: remoteOf(env),
    offer: readOffer(flags, env),
    host: flags.host ?? (env.BLACKBOX5_HOST || loopback),
    // On a terminal people read what serve prints for them; its log lines are for whoever collects
    // them.
    revived: env[revivedVariable] === "1",
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
 * The environment for what outlives the session that started it: `serve`, and through it the
 * agents. What it leaves out stands in its list.
 */
export const lastingEnvironment = (env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv =>
  lastingOf(env)

/**
 * The same for a serve that a client starts: there the client's project is one of the places to
 * look for the code root.
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
