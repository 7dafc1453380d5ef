#!/usr/bin/env node
import module from "node:module"
import { nodeMajorMin } from "./host/node-version.ts"
import { compileCacheIn } from "./settings/compile-cache.ts"

// This file must parse on Node 20, and loads only what the role needs.

/** Resolves with the exit code, or nothing for 0. */
type Role = (argv: string[]) => Promise<unknown>

const roles: Readonly<Record<string, () => Promise<Role>>> = {
  serve: async () => (await import("./roles/serve.ts")).serve,
  mcp: async () => (await import("./roles/mcp.ts")).mcp,
  agent: async () => (await import("./roles/agent.ts")).agent,
  loop: async () => (await import("./roles/loop.ts")).loop,
  turn: async () => (await import("./roles/turn.ts")).turn,
  top: async () => (await import("./roles/top.ts")).top,
  logs: async () => (await import("./roles/logs.ts")).logs,
  doctor: async () => (await import("./roles/doctor.ts")).doctor,
  connect: async () => (await import("./roles/connect.ts")).connect,
}

/** Roles that other programs start. Everything else is for people, who may close the pipe early. */
const programRoles: ReadonlySet<string> = new Set(["mcp", "agent", "loop", "turn"])

/**
 * When the reader is gone, as `head` is, the rest is dropped and the exit code stays the command's.
 */
function outliveReaders(): void {
  for (const stream of [process.stdout, process.stderr])
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") return
      process.exitCode = 1
      if (stream === process.stdout)
        process.stderr.write(`error: cannot write the output (${error.code})\n`)
    })
}

/** A Fault is recognized by its fields, so that its class is loaded only after a failure. */
async function report(error: unknown): Promise<void> {
  if (!(error instanceof Error && "next" in error)) {
    process.stderr.write(
      `error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    )
    return
  }
  const { reportFault } = await import("./roles/cli.ts")
  reportFault(error)
}

/** The npm package `node`, if it is installed beside this program. */
function nodePackage(): string | undefined {
  const require = module.createRequire(import.meta.url)
  try {
    const { version } = require("node/package.json")
    return Number.parseInt(version, 10) < nodeMajorMin
      ? undefined
      : require.resolve("node/bin/node")
  } catch {
    return undefined
  }
}

/** Reruns this program on a Node that is new enough: the one beside it, or an installed one. */
async function rerun(): Promise<number> {
  const { constants } = await import("node:os")
  const { spawn } = await import("node:child_process")
  const binary = nodePackage() ?? (await import("./host/find-node.ts")).findNode()
  if (binary === undefined) {
    process.stderr.write(
      `error: blackbox5 needs Node ${nodeMajorMin}; this is ${process.version}.\nnext: install Node ${nodeMajorMin}, or run \`npm install node@24\`\n`,
    )
    return 1
  }
  const child = spawn(binary, process.argv.slice(1), { stdio: "inherit" })
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(signal, () => child.kill(signal))
  return new Promise((resolve, reject) => {
    child.once("error", reject)
    child.once("exit", (code, signal) =>
      resolve(code ?? 128 + (signal ? constants.signals[signal] : 0)),
    )
  })
}

async function main([name = "help", ...rest]: string[]): Promise<unknown> {
  if (Number.parseInt(process.versions.node, 10) < nodeMajorMin) return rerun()
  // In the home directory, because in a shared /tmp others could plant code. If it is not writable,
  // there is no cache.
  const { homedir } = await import("node:os")
  try {
    module.enableCompileCache(compileCacheIn(homedir()))
  } catch {
    // A user without a home directory, as in some containers.
  }
  if (name === "--version" || name === "-v") {
    process.stdout.write(`${(await import("./settings/version.ts")).version}\n`)
    return 0
  }
  if (!programRoles.has(name)) outliveReaders()
  const role = Object.hasOwn(roles, name) ? await roles[name]?.() : undefined
  return role ? role(rest) : (await import("./roles/cli.ts")).cli([name, ...rest])
}

main(process.argv.slice(2)).then(
  (code) => {
    if (typeof code === "number" && code !== 0) process.exitCode = code
  },
  async (error: unknown) => {
    process.exitCode = 1
    await report(error)
  },
)
