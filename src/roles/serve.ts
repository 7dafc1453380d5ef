import { chmodSync, mkdirSync, rmSync } from "node:fs"
import type { Server } from "node:http"
import type { AddressInfo } from "node:net"
import { setFlagsFromString } from "node:v8"
import { createAdaptorServer } from "@hono/node-server"
import { tools } from "../../tools/index.ts"
import { through } from "../api/app.ts"
import type { Listener } from "../api/auth.ts"
import { acceptLinks } from "../api/link.ts"
import { assembleLocal, type LocalControlPlane } from "../assemble/local.ts"
import { whoAnswers } from "../client/find-serve.ts"
import { endServe, olderThanThis, type ServeFile, serveFilePath } from "../client/serve-file.ts"
import { Fault } from "../core/faults.ts"
import { offers, toolsets } from "../core/tool.ts"
import { counted, oneLine } from "../core/view.ts"
import { systemClock } from "../host/clock.ts"
import { dropRelativePath } from "../host/find-program.ts"
import { listeningPath } from "../host/local-socket.ts"
import { readPersonSettings } from "../host/person-settings.ts"
import { replaceFile } from "../host/replace-file.ts"
import { writePressing } from "../host/reserve.ts"
import { createMcpHttp, type McpHttpParts } from "../mcp/http.ts"
import {
  boundsEnvironment,
  type Config,
  defaultPort,
  isLoopback,
  readConfig,
} from "../settings/config.ts"
import { createLog } from "../settings/log.ts"
import { version } from "../settings/version.ts"
import { connectLine, shellLine } from "./client-entry.ts"
import { mountMcp } from "./mount-mcp.ts"
import { helpFlag, parseWords, showUsage, usageError } from "./parse-args.ts"
import { offerCommand } from "./shell-command.ts"

/**
 * By then all supervisors are back: collecting often from the start made their return half as long
 * again.
 */
const startedMs = 10_000
/** A request of a client that never ends is cut at a shutdown after this. */
const drainMs = 2000

const usage = `usage: blackbox5 serve [flags]

Runs the control plane of this user on this machine until Ctrl-C; the agents go on without it.
  --code-root DIR  the checkout whose projects it knows (else the one around this directory)
  --host ADDRESS   the address to listen on (127.0.0.1); another one needs a token or an issuer first
  --port N         the TCP port (${defaultPort}, or a free one if that is taken)
  --read-only      offer only the tools that change nothing
  --toolsets A,B   offer only these sets of tools: ${toolsets.join(", ")}
`
const options = {
  ...helpFlag,
  "code-root": { type: "string" },
  host: { type: "string" },
  port: { type: "string" },
  "read-only": { type: "boolean" },
  toolsets: { type: "string" },
} as const

/**
 * `blackbox5 serve`: the control plane of this user on this machine. Resolves with the exit code
 * when it ended; 2 when it was called wrongly. Tests give MCP `servers` that have more than the
 * fleet.
 */
export async function serve(
  argv: readonly string[],
  servers?: McpHttpParts["servers"],
): Promise<number> {
  const words = parseWords(argv, options)
  if (typeof words === "string") return usageError(words, usage)
  const { values, positionals } = words
  if (values.help) return showUsage(usage)
  if (positionals.length > 0)
    return usageError(`serve takes no ${JSON.stringify(positionals[0])}.`, usage)
  dropRelativePath()
  const {
    "code-root": codeRootFlag,
    "read-only": readOnly,
    port: portFlag,
    host,
    toolsets: only,
  } = values
  const config = readConfig({
    codeRoot: codeRootFlag,
    port: portFlag,
    host,
    readOnly,
    toolsets: only,
  })
  let plane: LocalControlPlane | undefined
  const log = createLog(config.logLevel, "serve", () => plane?.secretPrefixes() ?? [])
  try {
    mkdirSync(config.stateDirectory, { recursive: true, mode: 0o700 })
    chmodSync(config.stateDirectory, 0o700)
  } catch (error) {
    throw new Fault(
      "Invalid",
      `The state directory ${config.stateDirectory} cannot be written.`,
      "Set BLACKBOX5_STATE to a directory that this user may write.",
      error,
    )
  }
  // What it prints may go to a file on a full disk.
  process.stdout.on("error", () => {})
  const stopping = new AbortController()
  const entry: [string, string] = [process.execPath, process.argv[1] ?? ""]
  const before = await whoAnswers(config.socketPath)
  if (before?.version !== undefined && olderThanThis(before.version))
    await endServe(config, before.version)
  await readPersonSettings({
    ...{ stateDirectory: config.stateDirectory, revived: config.revived },
    report: (error) =>
      log.warn(
        { err: error },
        "settings of the person could not be read; those of before stay in use",
      ),
  })
  try {
    plane = await assembleLocal(config, version, entry, log, stopping.signal)
  } catch (error) {
    // Two started at once, or one ran already: whoever holds the database serves, and there is
    // nothing left to do.
    if (
      !(
        error instanceof Fault &&
        error.code === "Unavailable" &&
        (await whoAnswers(config.socketPath))
      )
    )
      throw error
    process.stdout.write(`blackbox5 already serves on ${config.socketPath}; this one ends.\n`)
    return 0
  }
  // The code root that is around it is known by now; what it starts must not begin in a tree that
  // agents write.
  process.chdir(config.stateDirectory)
  if (!isLoopback(config.host) && !(await plane.knowsPeople())) {
    stopping.abort()
    plane.close()
    throw new Fault(
      "Invalid",
      `On ${config.host} other machines could call, and nobody there could say who they are.`,
      "First make a token on loopback (`blackbox5 create-token`), or give an issuer as oidc in policy.yaml. TLS is your reverse proxy's.",
    )
  }
  // Before anything is made that an end must take away.
  const told = new Promise<void>((resolve) => {
    for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => resolve())
  })
  const mcp = createMcpHttp({
    ...{
      tools: tools.filter(offers(config.offer)),
      version,
      invokeAs: plane.invokeAs,
      nowMs: systemClock.nowMs,
    },
    ...(servers && { servers }),
  })
  mountMcp(plane.app, mcp)
  const running = plane.run()
  rmSync(config.socketPath, { force: true }) // left by one that was killed: the database's lock says that nobody else serves
  const listening: Server[] = []
  const open = async (
    door: Listener,
    at: { path: string } | { host: string; port: number },
  ): Promise<Server> => {
    const server = createAdaptorServer({
      fetch: through(plane.app, door),
      overrideGlobalObjects: false,
    }) as Server // no TLS and no HTTP/2 are asked for
    acceptLinks(server, plane.gateway, plane.credentials, stopping.signal)
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject)
      server.listen(at, resolve)
    })
    listening.push(server)
    return server
  }
  await open("socket", { path: listeningPath(config.socketPath) })
  chmodSync(config.socketPath, 0o600)
  const port = await openPort(config, (number) =>
    open(isLoopback(config.host) ? "tcp" : "public", { host: config.host, port: number }),
  ).catch(async (error: unknown) => {
    stopping.abort()
    for (const server of listening) server.close()
    await running
    plane.close()
    throw error
  })
  const url = `http://${urlHostOf(config.host)}:${port}`
  const { codeRoot } = plane
  const file: ServeFile = {
    ...{ pid: process.pid, url, version, entry, configDirectory: config.configDirectory },
    ...(codeRoot !== undefined && { codeRoot }),
    bounds: boundsEnvironment(config),
  }
  const path = serveFilePath(config.stateDirectory)
  // Clients on this machine find the socket; only a serve that replaces this one would ask the
  // file.
  if (!writePressing(config.stateDirectory, () => replaceFile(path, JSON.stringify(file))))
    log.warn({ path }, "the disk is full: this file could not be written")
  log.info({ url, socket: config.socketPath, version }, "serving")
  setTimeout(collectOften, startedMs).unref()
  process.stdout.write(await screen(config, plane, url))
  void offerCommand(stopping.signal)

  const failed = new Promise<void>((resolve) => {
    running.catch((error: unknown) => {
      log.fatal({ err: error }, "a controller failed")
      process.exitCode = 1
      resolve()
    })
  })
  await Promise.race([told, failed])
  log.info("shutting down; the agents go on")
  stopping.abort()
  await mcp.close()
  const cut = setTimeout(() => {
    for (const server of listening) server.closeAllConnections()
  }, drainMs)
  await Promise.all(
    listening.map(
      (server) => new Promise((resolve) => server.close(resolve).closeIdleConnections()),
    ),
  )
  clearTimeout(cut)
  await running.catch(() => {})
  rmSync(config.socketPath, { force: true })
  rmSync(serveFilePath(config.stateDirectory), { force: true })
  plane.close() // last: a successor that waits for the database makes a socket of its own
  return Number(process.exitCode ?? 0)
}

/**
 * V8 lets the old objects grow to several times of what is alive before it collects them, and keeps
 * the room. Measured with 64 clients for a minute: 434 MiB resident, of which 38 were alive; with
 * this and the bound of the young objects that serve is started with, half of that at the same
 * pace.
 */
function collectOften(): void {
  setFlagsFromString("--heap-growing-percent=40")
}

/**
 * An address as a URL names it; one that stands for all addresses is reached at this machine's own.
 */
const urlHostOf = (host: string): string =>
  host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host.includes(":") ? `[${host}]` : host

/** A demanded port is a demand; the default is a preference. */
async function openPort(
  { host, port }: Config,
  open: (port: number) => Promise<Server>,
): Promise<number> {
  const portOf = (server: Server): number => (server.address() as AddressInfo).port // a TCP server's address is no path
  try {
    return portOf(await open(port.number))
  } catch (error) {
    if (!(error instanceof Error && "code" in error)) throw error
    if (error.code === "EADDRINUSE" && !port.demanded && isLoopback(host))
      return portOf(await open(0))
    throw new Fault(
      "Unavailable",
      error.code === "EADDRINUSE"
        ? `Port ${port.number} is taken by another program.`
        : `Port ${port.number} cannot be listened on (${error.code}).`,
      `Give another one with --port or BLACKBOX5_PORT, or none: then ${defaultPort} is tried, and any free one after it.`,
      error,
    )
  }
}

/** What a person reads who has just started it: where it is, what it found, how to connect. */
async function screen(
  config: Config,
  { codeRoot, projects, policy }: LocalControlPlane,
  url: string,
): Promise<string> {
  const found = await projects.list().catch(() => [])
  const limits = policy.limits()
  return [
    "",
    `  Blackbox5 ${version} is up.`,
    "",
    `  Code root    ${codeRoot ?? "none found: start in a checkout, or give --code-root"}`,
    `  Projects     ${found.length > 0 ? found.slice(0, 12).join(", ") + (found.length > 12 ? ` and ${found.length - 12} more` : "") : "none yet"}`,
    `  Policy       ${policy.path}: ${counted(limits.instancesMax, "instance")}, ${counted(limits.turnsMax, "iteration")} at once`,
    ...(limits.refused === undefined
      ? []
      : [`               REFUSED, the defaults are in force: ${oneLine(limits.refused, 500)}`]),
    `  State        ${config.stateDirectory}`,
    `  REST         ${url}   (described at /openapi.json)`,
    `  MCP          ${url}/mcp   (Streamable HTTP)`,
    "  Bearer       for both: the file token in the state directory",
    "",
    "  To connect Claude Code, or Claude Desktop:",
    `    ${connectLine(config, codeRoot, "claude-code")}`,
    `    ${connectLine(config, codeRoot, "claude-desktop")}`,
    "",
    `  Then ask: "What are the agents doing?" or "Start an agent on ${found[0] ?? "my project"} that ...".`,
    "  To see the fleet from a shell, or what is wrong with this machine:",
    `    ${shellLine(config, "top")}`,
    `    ${shellLine(config, "doctor")}`,
    "",
    "  Ctrl-C ends the control plane; the agents go on.",
    "",
    "",
  ].join("\n")
}
