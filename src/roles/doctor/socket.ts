import { randomBytes } from "node:crypto"
import { createServer } from "node:http"
import { join } from "node:path"
import { openLinkSocket } from "../../agent/connection.ts"
import { socketUrl } from "../../core/endpoint.ts"
import { clean } from "../../core/view.ts"
import { listeningPath } from "../../host/local-socket.ts"
import { type Finding, fail, ok } from "./check.ts"

/**
 * Checks that an agent can connect to the control plane, by connecting as it does with a credential
 * that must be refused.
 */

const connectMs = 5000

/** Opens the link as a supervisor does. Undefined when a gateway answers, else why not. */
const knock = (socketPath: string): Promise<string | undefined> =>
  new Promise((resolve) => {
    const link = openLinkSocket({ url: socketUrl(socketPath) }, "doctor")
    const timer = setTimeout(() => done("no answer in time"), connectMs)
    const done = (why: string | undefined): void => {
      clearTimeout(timer)
      link.terminate()
      resolve(why)
    }
    link.on("unexpected-response", (_, { statusCode }) =>
      done(statusCode === 401 ? undefined : `HTTP status ${statusCode}`),
    )
    link.on("open", () => done("it accepted an invalid credential"))
    link.on("error", (error) => done(clean(error.message)))
  })

/** Tries a socket like that of serve, in the same directory. */
async function knockBeside(stateDirectory: string): Promise<string | undefined> {
  const path = join(stateDirectory, `doctor-${randomBytes(3).toString("hex")}.sock`)
  const server = createServer().on("upgrade", (_, socket) =>
    socket.end("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
  )
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject)
      server.listen(listeningPath(path), resolve)
    })
    return await knock(path)
  } catch (error) {
    return clean(error instanceof Error ? error.message : String(error))
  } finally {
    server.closeAllConnections()
    server.close() // also removes the socket
  }
}

/** `serves`: whether serve is listening already. The state directory must exist. */
export async function checkSocket(
  { stateDirectory, socketPath }: { readonly stateDirectory: string; readonly socketPath: string },
  serves: boolean,
): Promise<Finding> {
  const why = serves ? await knock(socketPath) : await knockBeside(stateDirectory)
  if (why === undefined)
    return ok(
      "socket",
      serves ? `${socketPath} accepts agents` : `can be created in ${stateDirectory}`,
    )
  return fail(
    "socket",
    `Agents cannot connect to ${socketPath}: ${why}.`,
    "Set BLACKBOX5_STATE to a directory on a local file system that this user can write to.",
  )
}
