import { createHash, timingSafeEqual } from "node:crypto"
import type { AddressInfo } from "node:net"
import { createAdaptorServer, type HttpBindings } from "@hono/node-server"
import { Hono } from "hono"
import { z } from "zod"
import type { Endpoint } from "../core/endpoint.ts"
import { errorCode } from "../core/error-code.ts"
import { Fault, httpStatus, RateLimited } from "../core/faults.ts"
import { alivePath } from "../core/tool.ts"
import { credentialInTime } from "../host/endpoint.ts"
import type { ProcessId } from "../host/processes.ts"
import { processIdSchema } from "../run/run-directory.ts"
import type { Grant } from "./claude-shim.ts"
import { type ForwardContext, forward } from "./forward.ts"
import { type HookAnswer, type HookInput, hookInputSchema } from "./hook-input.ts"
import { logsSchema, type TelemetryLogs } from "./meter.ts"
import {
  callsMax,
  connectionsMax,
  headersMs,
  limitAtOnce,
  limitBodies,
  limitPortRate,
  portRates,
  requestMs,
} from "./port-limits.ts"
import { logsPath, nestedLogsPath } from "./settings.ts"
import { turnFileBytesMax } from "./turn-files.ts"

/**
 * The loopback port of a supervisor: what the claude shim and the running claude talk to. Guarded
 * by a random token.
 */
export interface LoopbackHandlers {
  /**
   * Waits until the turn is granted; undefined when the wait was too long for one call, or the
   * signal came.
   */
  turn(id: string, self: ProcessId, signal: AbortSignal): Promise<Grant | undefined>
  /** Somebody says that it is over. */
  turnEnded(id: string, code: number, ms: number): Promise<void>
  /**
   * Puts settings of a claude into a file, for the turn that runs. @throws Fault when none does.
   */
  settings(text: string): Promise<{ readonly path: string; readonly turn: string }>
  hook(input: HookInput, isUnheard: boolean): HookAnswer
  /** The answer went out whole, to somebody who still waited for it. */
  given(answer: HookAnswer): void
  openingPart(index: number): HookAnswer
  /** `nested`: of a claude that the iteration's own one called. */
  logs(logs: TelemetryLogs, nested: boolean): void
  /** An MCP server that stays behind this port. */
  mcp(c: ForwardContext, name: string): Promise<Response>
  /** The control plane, as this instance. */
  readonly fleet: Endpoint
}
const endSchema = z.object({ code: z.int(), ms: z.int().min(0) })

const digest = (text: string): Buffer => createHash("sha256").update(text).digest()

const faultOf = (error: Error): Fault => {
  if (error instanceof Fault) return error
  if (error instanceof z.ZodError || error instanceof SyntaxError)
    return new Fault(
      "Invalid",
      "The body is not valid.",
      "Send what Claude Code and `blackbox5 turn` send.",
    )
  return new Fault(
    "Internal",
    "The supervisor could not handle this request.",
    "Look at supervisor.log in the run directory.",
  )
}

/**
 * Bounds what each kind of request may take: one instance has this port, and one process serves it.
 */
function limit(app: Hono<{ Bindings: HttpBindings }>, nowMs: () => number): void {
  const { bounded, measured } = limitBodies()
  const calls = limitPortRate("calls", portRates.calls, nowMs)
  const atOnce = limitAtOnce("calls", callsMax)
  app.use("/hooks/*", limitPortRate("hook calls", portRates.hooks, nowMs), bounded)
  app.use("/turns/*", limitPortRate("requests for turns", portRates.turns, nowMs), bounded)
  const telemetry = limitPortRate("exports of telemetry", portRates.telemetry, nowMs)
  for (const path of [logsPath, nestedLogsPath]) app.use(path, telemetry, bounded)
  app.use("/mcp/*", calls, atOnce, measured)
  app.use("/v1/*", (context, next) =>
    context.req.path === logsPath
      ? next()
      : calls(context, () => atOnce(context, next).then(() => {})),
  )
}

/**
 * @throws the bind error when the port is taken: a successor must have its predecessor's port,
 * which a running claude knows.
 */
export async function listen(
  port: number,
  token: string,
  handlers: LoopbackHandlers,
  nowMs = () => performance.now(),
): Promise<{ port: number; close(): void }> {
  const wanted = digest(`Bearer ${token}`)
  const app = new Hono<{ Bindings: HttpBindings }>()
  app.use(async (context, next) => {
    if (!timingSafeEqual(digest(context.req.header("authorization") ?? ""), wanted))
      return context.json({ error: "Only this port's own instance may call it." }, 401)
    return next()
  })
  app.onError((error, context) => {
    const { code, message, next } = faultOf(error)
    if (error instanceof RateLimited) context.header("retry-after", String(error.retryAfterSeconds))
    return context.json({ error: { code, message, next } }, httpStatus[code])
  })
  limit(app, nowMs)
  app.post("/turns/:id", async (context) => {
    const self = processIdSchema.parse(await context.req.json())
    const grant = await handlers.turn(context.req.param("id"), self, context.req.raw.signal)
    return grant ? context.json(grant) : context.body(null, 204)
  })
  app.post("/turns/:id/end", async (context) => {
    const { code, ms } = endSchema.parse(await context.req.json())
    await handlers.turnEnded(context.req.param("id"), code, ms)
    return context.json({})
  })
  app.post("/turns/:id/settings", limitBodies(turnFileBytesMax).bounded, async (context) =>
    context.json(await handlers.settings(await context.req.text())),
  )
  app.post("/hooks", async (context) => {
    const input = hookInputSchema.parse(await context.req.json())
    // When this process stood still for long, claude may have given up on its question: that is
    // seen in the next turns of the event loop.
    for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve))
    const answer = handlers.hook(input, context.req.raw.signal.aborted)
    context.env.outgoing.once("finish", () => {
      if (!context.req.raw.signal.aborted) handlers.given(answer)
    })
    return context.json(answer)
  })
  app.post("/hooks/opening/:part", async (context) => {
    const { agent_id } = hookInputSchema.parse(await context.req.json())
    return context.json(
      agent_id === undefined ? handlers.openingPart(Number(context.req.param("part"))) : {},
    )
  })
  for (const path of [logsPath, nestedLogsPath])
    app.post(path, async (context) => {
      handlers.logs(logsSchema.parse(await context.req.json()), path === nestedLogsPath)
      return context.json({})
    })
  // The fleet's tools, for `blackbox5 mcp` and the command line inside the instance: there this
  // instance calls, not a person.
  app.all("/v1/*", (context) => {
    // As it was matched, not as it was written: nobody reads it differently further on.
    const { pathname, search } = new URL(context.req.url)
    if (pathname === "/v1/link") return context.notFound() // the supervisor's own
    return forward(context, {
      name: "The control plane",
      address: handlers.fleet,
      path: pathname + search,
      headers: async () => ({
        authorization: `Bearer ${(await credentialInTime(handlers.fleet)) ?? ""}`,
      }),
    })
  })
  app.get(alivePath, (context) => context.json({}))
  app.all("/mcp/:name", (context) => handlers.mcp(context, context.req.param("name")))
  const server = createAdaptorServer({
    fetch: app.fetch,
    serverOptions: {
      headersTimeout: headersMs,
      requestTimeout: requestMs,
      connectionsCheckingInterval: headersMs / 2,
    },
  })
  server.maxConnections = connectionsMax
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject)
    server.listen(port, "127.0.0.1", resolve)
  })
  return {
    port: (server.address() as AddressInfo).port, // a TCP server's address is never a path
    close: () => {
      server.close()
      if ("closeAllConnections" in server) server.closeAllConnections()
    },
  }
}

/**
 * How long a port is waited for: its own number may have gone to somebody's outgoing connection
 * while no supervisor was there.
 */
const freeMsMax = 20_000

/** As `listen`, patiently. @throws the bind error when the port stays taken. */
export async function listenWhenFree(
  ...[port, token, handlers]: Parameters<typeof listen>
): ReturnType<typeof listen> {
  const giveUpAtMs = performance.now() + freeMsMax
  for (;;) {
    try {
      return await listen(port, token, handlers)
    } catch (error) {
      const isTaken = errorCode(error) === "EADDRINUSE"
      if (!isTaken || performance.now() > giveUpAtMs) throw error
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}
