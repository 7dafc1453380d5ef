import { closeSync, constants, openSync } from "node:fs"
import type { RequestOptions } from "node:http"
import { connect, type Socket } from "node:net"
import { basename, dirname, join } from "node:path"
import { Fault } from "../core/faults.ts"

/**
 * Unix sockets whose path is longer than the system takes. Such a socket is reached through its
 * open directory, as `/proc/self/fd/<n>/serve.sock`: the same file in the same place, so that
 * everybody agrees on it without a word, nothing stands in a directory that others may write or
 * that is cleaned up, and what hides the state directory hides it too.
 */

// An import of node:http also loads what it merely re-exports, node's fetch and WebSocket: 40 ms
// and 12 MiB in every client.
const { Agent } = process.getBuiltinModule("node:http")

/** `sun_path` holds 108 bytes on Linux and 104 on macOS, with its closing NUL. */
export const socketBytesMax = 103
const isShort = (path: string): boolean => Buffer.byteLength(path) <= socketBytesMax

/**
 * An open directory, and the name by which this process alone reaches a file in it. @throws when
 * there is no such directory.
 */
function throughDirectory(path: string): { readonly path: string; close(): void } {
  const directory = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY)
  return {
    path: join("/proc/self/fd", String(directory), basename(path)),
    close: () => closeSync(directory),
  }
}

/**
 * Connects to the socket at a path, however long it is; where there is none, the returned socket
 * fails, as always.
 */
export function connectTo(path: string): Socket {
  if (isShort(path)) return connect(path)
  let through: ReturnType<typeof throughDirectory>
  try {
    through = throughDirectory(path)
  } catch {
    return connect(path) // which fails later and says so, as callers expect it
  }
  try {
    return connect(through.path) // the system call is made before this returns
  } finally {
    through.close()
  }
}

/** How an HTTP request gets there, on a connection of its own. */
export function requestOptionsTo(
  path: string,
): Pick<RequestOptions, "agent" | "socketPath" | "host"> {
  if (isShort(path)) return { socketPath: path, host: "localhost", agent: false }
  const agent = new Agent()
  agent.createConnection = () => connectTo(path)
  return { host: "localhost", agent }
}

/**
 * The name under which a server listens there; the directory stays open as long as this process.
 * @throws Unavailable on other systems than Linux.
 */
export function listeningPath(path: string): string {
  if (isShort(path)) return path
  if (process.platform === "linux") return throughDirectory(path).path
  throw new Fault(
    "Unavailable",
    `The socket's path ${path} is longer than ${socketBytesMax} bytes, which ${process.platform} does not take.`,
    "Set BLACKBOX5_STATE to a shorter directory.",
  )
}
