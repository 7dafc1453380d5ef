import { createHmac, randomBytes, timingSafeEqual } from "node:crypto"
import { readFileSync, writeFileSync } from "node:fs"
import type { IncomingMessage, Server } from "node:http"
import { join } from "node:path"
import type { Duplex } from "node:stream"
import { WebSocketServer } from "ws"
import { nameSchema, uidSchema } from "../core/instance.ts"
import { closeGoingAway, frameBytesMax } from "../core/link.ts"
import type { Gateway } from "./gateway.ts"

/** The WebSocket `/v1/link`, by which supervisors reach the gateway, and the credential that each of them has. */

export interface Credentials {
  mint(uid: string, place: string): string
  verify(uid: string, place: string, credential: string): boolean
}
/** A credential is good for one instance at one place: an HMAC over both, so nothing need be kept for it. */
export function createCredentials(stateDirectory: string): Credentials {
  const path = join(stateDirectory, "link.key")
  let key: Buffer
  try {
    key = readFileSync(path)
  } catch {
    key = randomBytes(32)
    writeFileSync(path, key, { mode: 0o600, flag: "wx" })
  }
  const mac = (uid: string, place: string): Buffer => createHmac("sha256", key).update(`${uid}\0${place}`).digest()
  return {
    mint: (uid, place) => mac(uid, place).toString("base64url"),
    verify(uid, place, credential) {
      const given = Buffer.from(credential, "base64url")
      const wanted = mac(uid, place)
      return given.length === wanted.length && timingSafeEqual(given, wanted)
    },
  }
}

/** Bytes that may wait to be sent to one supervisor before its link is cut; it connects again and gets the levels anew. */
const bufferedBytesMax = 8 * 1024 * 1024
const pingMs = 20_000

/** Takes the upgrades to `/v1/link` of a server; other upgrades are refused. */
export function acceptLinks(server: Server, gateway: Gateway, credentials: Credentials, signal: AbortSignal): void {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: frameBytesMax })
  const refuse = (socket: Duplex, status: string): void => {
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
  }
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => socket.destroy())
    // Not relative to a base: a path that begins with two slashes would be read as a host, or throw.
    const url = URL.parse(`http://localhost${request.url}`)
    if (url?.pathname !== "/v1/link") return refuse(socket, "404 Not Found")
    const name = nameSchema.safeParse(url.searchParams.get("name"))
    const uid = uidSchema.safeParse(url.searchParams.get("uid"))
    const place = url.searchParams.get("place") ?? ""
    const bearer = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1] ?? ""
    if (!name.success || !uid.success || request.headers.origin !== undefined || !credentials.verify(uid.data, place, bearer))
      return refuse(socket, "401 Unauthorized")
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      const link = gateway.connect({
        name: name.data,
        uid: uid.data,
        place,
        send(frame) {
          if (webSocket.bufferedAmount > bufferedBytesMax) webSocket.terminate()
          else webSocket.send(JSON.stringify(frame))
        },
        close: (code, reason) => webSocket.close(code, reason),
      })
      let answered = true
      const timer = setInterval(() => {
        if (!answered) return webSocket.terminate()
        answered = false
        webSocket.ping()
      }, pingMs)
      webSocket.on("pong", () => {
        answered = true
      })
      webSocket.on("message", (data) => link.receive(String(data)))
      webSocket.on("error", () => webSocket.terminate())
      webSocket.on("close", () => {
        clearInterval(timer)
        link.closed()
      })
    })
  })
  signal.addEventListener("abort", () => {
    for (const client of sockets.clients) client.close(closeGoingAway, "the gateway is going away")
    sockets.close()
  })
}
