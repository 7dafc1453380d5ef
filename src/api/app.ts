import { randomBytes } from "node:crypto"
import type { HttpBindings } from "@hono/node-server"
import { type Context, Hono } from "hono"
import { streamSSE } from "hono/streaming"
import type { ContentfulStatusCode } from "hono/utils/http-status"
import { decode, inputFields } from "../core/decode.ts"
import { asFault, Fault, httpStatus, RateLimited } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import { may, type Principal } from "../core/principal.ts"
import { codeRootHeader, noProgress, type Tool } from "../core/tool.ts"
import { clean, cut, presented } from "../core/view.ts"
import type { Log } from "../settings/log.ts"
import { type Arrival, type Authenticate, admit, checkOrigin, type Listener } from "./auth.ts"
import { readBody } from "./body.ts"
import type { CredentialWatch } from "./credential-watch.ts"
import type { Metrics } from "./metrics.ts"
import { openApiOf, pathFieldsOf } from "./openapi.ts"
import { challengeOf, metadataOf, metadataPath } from "./resource-metadata.ts"

const heartbeatMs = 15_000

export interface AppEnv {
  Bindings: HttpBindings & { door?: Listener }
  Variables: { who: Principal }
}
export type App = Hono<AppEnv>

export interface AppParts {
  readonly tools: readonly Tool[]
  /** Which of them are told of; the others have their routes, which say why not. */
  readonly offered: (tool: Tool) => boolean
  /** Measured already, where calls are to be counted: other faces call it too. */
  readonly invokeAs: (who: Principal) => Invoke
  readonly authenticate: Authenticate
  readonly standing: CredentialWatch
  readonly ready: () => Promise<{ readonly ready: boolean; readonly why: string }>
  readonly metrics: Metrics
  /**
   * Where people elsewhere reach it, and who issues tokens for them, as far as there is that now.
   */
  readonly publicUrl: () => string | undefined
  readonly issuer: () => string | undefined
  /** Remembers the code root that a client found where it runs; undefined when it is none. */
  admitCodeRoot?(path: string): string | undefined
  readonly version: string
  readonly log: Log
}

/** Said to everybody: nothing of the fleet. */
const open = /^\/(?:healthz|readyz|\.well-known\/oauth-protected-resource(?:\/.*)?)$/

const said = ({ code, message, next, untrusted }: Fault): object =>
  presented(
    { code, message, next, ...(untrusted !== undefined && { untrusted }) },
    randomBytes(6).toString("hex"),
  )

/**
 * What is known of a request's sender. Without a word of the listener it came over TCP, which
 * proves nothing.
 */
export const arrivalOf = (c: Context<AppEnv>): Arrival => ({
  door: c.env?.door ?? "tcp",
  host: c.req.header("host"),
  origin: c.req.header("origin"),
  authorization: c.req.header("authorization"),
})

/** The fetch callback of a listener: it tells the app which door its requests come through. */
export const through =
  (app: App, door: Listener) =>
  (request: Request, bindings: HttpBindings | object): Response | Promise<Response> =>
    // Assigned rather than copied: node-server finds a WebSocket's upgrade by the identity of its
    // bindings.
    app.fetch(request, Object.assign(bindings, { door }))

interface Route {
  readonly tool: Tool
  readonly method: string
  /** The input fields in the path, or undefined when it is another path. */
  match(path: string): Record<string, string> | undefined
  input(c: Context<AppEnv>): Promise<Record<string, unknown>>
}

function routeOf(tool: Tool): Route {
  const [method = "", path = ""] = tool.route.split(" ")
  const names = pathFieldsOf(path)
  const literals = path
    .split(/\{\w+\}/)
    .map((literal) => literal.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))
  const pattern = new RegExp(`^${literals.join("([^/]+)")}$`)
  const fields = inputFields(tool.input)
  return {
    tool,
    method,
    match(asked) {
      const values = pattern.exec(asked)?.slice(1)
      return (
        values &&
        Object.fromEntries(names.map((name, index) => [name, unescaped(values[index] ?? "")]))
      )
    },
    async input(c) {
      if (method === "GET") return decode(fields, new Map(Object.entries(c.req.queries())))
      return readBody(c.req.raw)
    },
  }
}

/** @throws Invalid, TooLarge for what is no input of the route. */
async function inputOf(
  c: Context<AppEnv>,
  route: Route,
  inPath: Record<string, string>,
): Promise<Record<string, unknown>> {
  const input = await route.input(c)
  const twice = Object.keys(inPath).find((name) => Object.hasOwn(input, name))
  if (twice === undefined) return { ...input, ...inPath }
  throw new Fault(
    "Invalid",
    `${twice} stands in the path already.`,
    `Leave ${twice} out of the body and the query.`,
  )
}

/** Some clients escape the colon of `instances:pause`. */
const pathOf = (c: Context<AppEnv>): string => new URL(c.req.url).pathname.replace(/%3A/gi, ":")

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new Fault("Invalid", "A percent escape is broken.", "Escape it as UTF-8.")
  }
}

async function call(
  c: Context<AppEnv>,
  invoke: Invoke,
  tool: string,
  input: Record<string, unknown> | Fault,
  codeRoot: string | undefined,
  log: Log,
): Promise<Response> {
  // It fires when the client goes away before its answer is complete.
  const common = { signal: c.req.raw.signal, ...(codeRoot !== undefined && { codeRoot }) }
  const tell = (error: unknown): Fault => {
    const fault = asFault(error)
    if (fault.code === "Internal") log.error({ err: fault.cause ?? fault, tool }, "call failed")
    return fault
  }
  if (!c.req.header("accept")?.includes("text/event-stream")) {
    try {
      return c.json(await invoke(tool, input, { ...common, progress: noProgress }))
    } catch (error) {
      throw tell(error)
    }
  }
  return streamSSE(c, async (stream) => {
    let latest: { done: number; message: string } | undefined
    let writing = Promise.resolve()
    // A slow reader gets the latest progress only: nothing piles up.
    const progress = (done: number, message: string): void => {
      const idle = latest === undefined
      latest = { done, message: clean(message) }
      if (!idle) return
      writing = writing.then(async () => {
        const data = JSON.stringify(latest)
        latest = undefined
        await stream.writeSSE({ event: "progress", data })
      })
    }
    const heartbeat = setInterval(() => void stream.write(": alive\n\n"), heartbeatMs)
    const last = await invoke(tool, input, { ...common, progress }).then(
      (result) => ({ event: "result", data: JSON.stringify(result) }),
      (error: unknown) => ({ event: "fault", data: JSON.stringify({ error: said(tell(error)) }) }),
    )
    clearInterval(heartbeat)
    await writing
    await stream.writeSSE(last)
  })
}

/**
 * REST from the tools, and what watches over a server. Routes that are added to it later are
 * guarded likewise.
 */
export function createApp({
  tools,
  offered,
  invokeAs,
  authenticate,
  standing,
  publicUrl,
  issuer,
  ready,
  metrics,
  admitCodeRoot,
  version,
  log,
}: AppParts): App {
  const app: App = new Hono<AppEnv>()
  // A literal path comes before one with fields.
  const routes = tools
    .map(routeOf)
    .sort((a, b) => pathFieldsOf(a.tool.route).length - pathFieldsOf(b.tool.route).length)
  const answer = (
    c: Context<AppEnv>,
    fault: Fault,
    status: ContentfulStatusCode = httpStatus[fault.code],
  ): Response => c.json({ error: said(fault) }, status)

  /** A person's alone: an instance works where its own is, whatever it says. */
  const codeRootOf = (c: Context<AppEnv>): string | undefined => {
    const told = c.req.header(codeRootHeader)
    // A path of this machine: nothing that a person elsewhere, who only looks or steers, has a say
    // in.
    return told === undefined || may(c.get("who"), "administer") !== true
      ? undefined
      : admitCodeRoot?.(unescaped(told))
  }

  const baseOf = (c: Context<AppEnv>): string =>
    publicUrl()?.replace(/\/$/, "") ?? `http://${c.req.header("host") ?? "localhost"}`
  app.onError((error, c) => {
    const fault = asFault(error)
    if (!(error instanceof Fault)) log.error({ err: error, path: c.req.path }, "request failed")
    if (fault.code === "Unauthenticated")
      c.header(
        "www-authenticate",
        challengeOf(baseOf(c), c.req.path, issuer(), c.req.header("authorization") !== undefined),
      )
    if (fault instanceof RateLimited) c.header("retry-after", String(fault.retryAfterSeconds))
    return answer(c, fault)
  })
  app.use(async (c, next) => {
    c.header("cache-control", "no-store")
    c.header("x-content-type-options", "nosniff")
    const arrival = arrivalOf(c)
    if (open.test(c.req.path)) checkOrigin(arrival, publicUrl())
    else {
      c.set("who", await admit(authenticate, arrival, publicUrl()))
      // Whatever face answers, and however long: the answer is cut when its credential ends. The
      // call in it sees a client that went away.
      const { outgoing } = c.env ?? {}
      if (outgoing)
        outgoing.once(
          "close",
          standing.whileValid(arrival, () => outgoing.destroy()),
        )
    }
    await next()
  })
  for (const path of [metadataPath, `${metadataPath}/*`])
    app.get(path, (c) => {
      const its = issuer()
      const metadata = its === undefined ? undefined : metadataOf(baseOf(c), c.req.path, its)
      return metadata ? c.json(metadata) : c.notFound()
    })
  app.get("/healthz", (c) => c.json({ alive: true, version }))
  app.get("/readyz", async (c) => {
    const state = await ready()
    return c.json({ ready: state.ready, why: clean(state.why) }, state.ready ? 200 : 503)
  })
  app.get("/metrics", async (c) =>
    c.body(await metrics.text(), 200, { "content-type": metrics.contentType }),
  )
  const document = JSON.stringify(openApiOf(tools.filter(offered), version))
  app.get("/openapi.json", (c) => c.body(document, 200, { "content-type": "application/json" }))
  app.use("/v1/*", async (c, next) => {
    const path = pathOf(c)
    for (const route of routes) {
      const inPath = route.method === c.req.method ? route.match(path) : undefined
      if (!inPath) continue
      // What cannot be read is a call too: it counts for its caller, and is audited.
      const input = await inputOf(c, route, inPath).catch(asFault)
      return call(c, invokeAs(c.get("who")), route.tool.name, input, codeRootOf(c), log)
    }
    return next()
  })
  app.notFound((c) => {
    const path = pathOf(c)
    const methods = routes.filter((route) => route.match(path)).map(({ method }) => method)
    if (methods.length === 0)
      return answer(
        c,
        new Fault(
          "NotFound",
          `There is nothing at ${cut(c.req.path, 200)}.`,
          "GET /openapi.json lists all routes.",
        ),
      )
    c.header("allow", methods.join(", "))
    return answer(
      c,
      new Fault(
        "Invalid",
        `${c.req.path} takes no ${c.req.method}.`,
        `Use ${methods.join(" or ")}.`,
      ),
      405,
    )
  })
  return app
}
