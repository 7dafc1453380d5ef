import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { basename, delimiter, dirname, isAbsolute, join } from "node:path"
import type { StdioServer } from "../core/mcp-servers.ts"
import { executable, isBelow, safestFirst } from "../host/find-program.ts"
import { isAlive, processId } from "../host/processes.ts"

/**
 * How the program of an MCP server with a secret is started. It runs outside of its agent's
 * namespaces, so nothing that an agent may write decides what it runs or reads: it has a directory,
 * a home and an environment of its own, in the state directory, which agents do not see.
 */

/**
 * What of the supervisor's environment it gets: language, time zone, the way out of this network,
 * and whom it trusts there.
 */
const passed =
  /^(?:LANG|LANGUAGE|LC_\w+|TZ|USER|LOGNAME|(?:https?|all|no|ftp)_proxy|(?:HTTPS?|ALL|NO|FTP)_PROXY|SSL_CERT_(?:FILE|DIR)|NODE_EXTRA_CA_CERTS|NODE_USE_SYSTEM_CA|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|PIP_CERT|AWS_CA_BUNDLE|GIT_SSL_CA(?:INFO|PATH))$/

export interface ServerProgramOptions {
  readonly stateDirectory: string
  /** Directories that agents write: no program with a secret is taken from them. */
  readonly written: readonly string[]
  readonly environment: NodeJS.ProcessEnv
}
export interface StartedServer {
  readonly program: StdioServer & { readonly cwd: string }
  /** Takes its directory away, once it has ended. */
  remove(): void
}

/** The entries of a PATH in which such a program is looked for. */
const pathFor = ({
  stateDirectory,
  written,
  environment,
}: ServerProgramOptions): readonly string[] =>
  safestFirst(
    (environment.PATH ?? "").split(delimiter).filter(
      (entry) =>
        isAbsolute(entry) &&
        // npm puts those first for what it runs: they are of packages, not of the person.
        !entry.endsWith("/node_modules/.bin") &&
        ![stateDirectory, ...written].some((directory) => isWithin(entry, directory)),
    ),
  )
/** Whatever links lead there. */
const isWithin = (path: string, directory: string): boolean =>
  isBelow(realPath(path), realPath(directory))
function realPath(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}

/**
 * The program that a server names, as an absolute path; or, in a sentence, why there is none to
 * start.
 */
export function findServerProgram(
  { command, env }: Pick<StdioServer, "command" | "env">,
  options: ServerProgramOptions,
): { readonly path: string } | { readonly why: string } {
  const chosen = env.PATH?.split(delimiter).filter(isAbsolute)
  const path = command.includes("/")
    ? [command].find(executable)
    : (chosen ?? pathFor(options)).map((entry) => join(entry, command)).find(executable)
  if (path === undefined)
    return {
      why: command.includes("/")
        ? `there is no executable file ${command}`
        : `there is no program ${command} on the PATH of programs with secrets (give its absolute path, or a PATH in env)`,
    }
  if (options.written.some((directory) => isWithin(path, directory)))
    return {
      why: `${path} stands in a tree that agents write, and would run with a secret (install it elsewhere)`,
    }
  return { path }
}

/**
 * Homes are kept, so that what a server downloads or remembers is there in the next iteration, too;
 * a server has one for all agents.
 */
const homeOf = (place: string): string => join(place, "home")
const sessionName = /^session-(\d+)-(\d+)-/

/** Makes what it needs. @throws when the state directory cannot be written. */
export function prepareServer(
  name: string,
  { args, env }: StdioServer,
  path: string,
  options: ServerProgramOptions,
): StartedServer {
  const place = join(options.stateDirectory, "programs", name)
  const home = homeOf(place)
  mkdirSync(home, { recursive: true, mode: 0o700 })
  // uv looks for its settings upward from where it runs, and would find what an agent wrote above:
  // its search ends here.
  writeFileSync(join(place, "uv.toml"), "", { mode: 0o600 })
  removeLeftovers(place)
  const own = processId(process.pid)
  const session = mkdtempSync(
    join(place, `session-${own?.pid ?? process.pid}-${own?.startTicks ?? 0}-`),
  )
  const [cwd, temporary] = [join(session, "directory"), join(session, "tmp")]
  for (const directory of [cwd, temporary]) mkdirSync(directory, { mode: 0o700 })
  const inherited = Object.entries(options.environment).flatMap(([key, value]) =>
    passed.test(key) && value !== undefined ? [[key, value] as const] : [],
  )
  const neighbours = path.includes("/") ? [dirname(path)] : []
  return {
    program: {
      command: path,
      args: runsPackages(path) ? ["--prefix", "/", ...args] : args,
      cwd,
      env: {
        ...Object.fromEntries(inherited),
        PATH: [...new Set([...neighbours, ...pathFor(options)])].join(delimiter),
        HOME: home,
        TMPDIR: temporary,
        // What the SDK would otherwise take from our environment.
        SHELL: "/bin/sh",
        TERM: "dumb",
        GIT_CEILING_DIRECTORIES: place,
        ...env,
      },
    },
    remove: () => rmSync(session, { recursive: true, force: true }),
  }
}

/**
 * npx runs what it finds in node_modules/.bin of a directory above, up to the root: so it begins
 * there, where agents do not write.
 */
const runsPackages = (path: string): boolean => /^(?:npx|npm)$/.test(basename(path))

/** Of sessions whose supervisor was killed. */
function removeLeftovers(place: string): void {
  for (const name of readdirSync(place)) {
    const [, pid, startTicks] = sessionName.exec(name) ?? []
    if (pid !== undefined && !isAlive({ pid: Number(pid), startTicks: Number(startTicks) }))
      rmSync(join(place, name), { recursive: true, force: true })
  }
}
