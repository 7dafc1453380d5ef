import { createHmac, randomBytes, timingSafeEqual } from "node:crypto"
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import type { IncomingMessage, Server } from "node:http"
import { join } from "node:path"
import type { Duplex } from "node:stream"
import { WebSocketServer } from "ws"
import { z } from "zod"
import { createBuckets, untilFullMs } from "../core/bucket.ts"
import { closeGoingAway, frameBytesMax } from "../core/frames.ts"
import { nameSchema, uidSchema } from "../core/instance.ts"
import { credentialPrefix } from "../core/secrets.ts"
import { bearerOf } from "./auth.ts"
import type { Gateway } from "./gateway.ts"

/**
 * The WebSocket `/v1/link`, by which supervisors reach the gateway, and the credential that each of
 * them has.
 */

const holderSchema = z.strictObject({
  name: nameSchema,
  uid: uidSchema,
  place: z.string().min(1).max(128),
  /** Of the run at that place; absent for one that a version before 0.5 started. */
  number: z.int().min(1).optional(),
})
/** Whom a credential was made for: one instance at one place. */
export type Holder = z.output<typeof holderSchema>

export interface Credentials {
  /**
   * A bearer that says itself whom it is for, so that nothing need be kept for it: the holder, and
   * an HMAC over that.
   */
  mint(holder: Holder): string
  /**
   * Undefined when the bearer is no credential of this fleet. Whether the holder's run still lives
   * is not looked at here.
   */
  verify(bearer: string): Holder | undefined
}
const keyBytes = 32
export function createCredentials(stateDirectory: string): Credentials {
  const path = join(stateDirectory, "link.key")
  let key: Buffer = existsSync(path) ? readFileSync(path) : Buffer.alloc(0)
  // Half a key, of a machine that stopped just then, would be a weak one; no run that knew it
  // lives.
  if (key.length !== keyBytes) {
    key = randomBytes(keyBytes)
    const draft = `${path}.${process.pid}`
    writeFileSync(draft, key, { mode: 0o600, flush: true })
    renameSync(draft, path)
  }
  const mac = (said: string): Buffer => createHmac("sha256", key).update(said).digest()
  return {
    mint({ name, uid, place, number }) {
      const said = Buffer.from(JSON.stringify({ name, uid, place, number })).toString("base64url")
      return `${credentialPrefix}${said}.${mac(said).toString("base64url")}`
    },
    verify(bearer) {
      // Supervisors of before credentials had a prefix go on with theirs.
      const bare = bearer.startsWith(credentialPrefix)
        ? bearer.slice(credentialPrefix.length)
        : bearer
      const [said = "", proof = "", more] = bare.split(".")
      const given = Buffer.from(proof, "base64url")
      const wanted = mac(said)
      if (more !== undefined || given.length !== wanted.length || !timingSafeEqual(given, wanted))
        return undefined
      return holderSchema.parse(JSON.parse(Buffer.from(said, "base64url").toString("utf8"))) // the proof says that this key's owner wrote it
    },
  }
}

/**
 * Bytes that may wait to be sent to one supervisor before its link is cut; it connects again and
 * gets the levels anew.
 */
const bufferedBytesMax = 8 * 1024 * 1024
const pingMs = 20_000
/**
 * What one instance may send: a frame costs one, and one more for each 4 KiB. Thousands may wait in
 * a spool when it connects again; at work it sends a few a second. Above that its socket is read
 * more slowly, which costs nobody else anything.
 */
const frameRate = { max: 8000, perSecond: 200 }
const bytesPerToken = 4096
/**
 * How often it may connect: supervisors come back within a second, a few times for one lost link.
 */
const connectRate = { max: 200, perSecond: 5 }
/** Instances that are remembered; the longest silent is forgotten first. */
const instancesMax = 20_000

/** Takes the upgrades to `/v1/link` of a server; other upgrades are refused. */
export function acceptLinks(
  server: Server,
  gateway: Gateway,
  credentials: Credentials,
  signal: AbortSignal,
): void {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: frameBytesMax })
  const frames = createBuckets<string>(frameRate, instancesMax)
  const connects = createBuckets<string>(connectRate, instancesMax)
  const refuse = (socket: Duplex, status: string): void => {
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
  }
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => socket.destroy())
    // Not relative to a base: a path that begins with two slashes would be read as a host, or
    // throw.
    const url = URL.parse(`http://localhost${request.url}`)
    if (url?.pathname !== "/v1/link") return refuse(socket, "404 Not Found")
    const holder = credentials.verify(bearerOf(request.headers.authorization) ?? "")
    if (!holder || request.headers.origin !== undefined) return refuse(socket, "401 Unauthorized")
    if (connects.take(holder.uid, 1, performance.now()).tokens < 0)
      return refuse(socket, "429 Too Many Requests")
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      let isClosing = false
      let resume: NodeJS.Timeout | undefined
      const link = gateway.connect({
        ...holder,
        send(frame) {
          if (webSocket.bufferedAmount > bufferedBytesMax) webSocket.terminate()
          else webSocket.send(JSON.stringify(frame))
        },
        close(code, reason) {
          isClosing = true
          webSocket.close(code, reason)
        },
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
      webSocket.on("message", (data) => {
        // Who was told to go may go on sending until the socket is closed.
        if (isClosing) return
        const text = String(data)
        const left = frames.take(holder.uid, 1 + text.length / bytesPerToken, performance.now())
        if (left.tokens < 0) {
          webSocket.pause()
          clearTimeout(resume)
          resume = setTimeout(() => webSocket.resume(), untilFullMs(left, frameRate, 0))
        }
        link.receive(text)
      })
      webSocket.on("error", () => webSocket.terminate())
      webSocket.on("close", () => {
        clearInterval(timer)
        clearTimeout(resume)
        link.closed()
      })
    })
  })
  signal.addEventListener("abort", () => {
    for (const client of sockets.clients) client.close(closeGoingAway, "the gateway is going away")
    sockets.close()
  })
}
