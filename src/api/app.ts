import type { HttpBindings } from "@hono/node-server"
import { type Context, Hono, type MiddlewareHandler } from "hono"
import { asFault, Fault, RateLimited } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import { may, type Principal } from "../core/principal.ts"
import { codeRootHeader, type Tool } from "../core/tool.ts"
import { clean, cut } from "../core/view.ts"
import type { Log } from "../settings/log.ts"
import {
  type AdmissionParts,
  type Arrival,
  admit,
  checkOrigin,
  type Listener,
  readBearer,
} from "./admission.ts"
import { answerCall, answerFault } from "./answer.ts"
import type { CredentialWatch } from "./credential-watch.ts"
import type { Metrics } from "./metrics.ts"
import { openApiOf } from "./openapi.ts"
import { challengeOf, metadataOf, metadataPath } from "./resource-metadata.ts"
import { createRoutes, type Route, routePath, unescapePart } from "./routes.ts"

export interface AppEnv {
  Bindings: HttpBindings & { listener?: Listener }
  Variables: { who: Principal }
}
export type App = Hono<AppEnv>

export interface AppParts extends AdmissionParts {
  readonly tools: readonly Tool[]
  /** Whether a tool is in the OpenAPI document; the others have routes too, which say why not. */
  readonly offered: (tool: Tool) => boolean
  /** Counts and times calls, where that is wanted: other faces use it too. */
  readonly invokeAs: (who: Principal) => Invoke
  readonly credentialWatch: CredentialWatch
  readonly ready: () => Promise<{ readonly ready: boolean; readonly why: string }>
  readonly metrics: Metrics
  /** Who issues tokens for people, if anybody does. */
  readonly issuer: () => string | undefined
  /** Remembers the code root that a client found where it runs; undefined when it is none. */
  admitCodeRoot?(path: string): string | undefined
  readonly version: string
  readonly log: Log
}

/** Answered without authentication: these say nothing of the fleet. */
const isOpen = (path: string): boolean =>
  /^\/(?:healthz|readyz|\.well-known\/oauth-protected-resource(?:\/.*)?)$/.test(path)

/** Without a word of the listener a request came over TCP, which proves nothing. */
const arrivalOf = (c: Context<AppEnv>): Arrival => ({
  listener: c.env?.listener ?? "tcp",
  host: c.req.header("host"),
  origin: c.req.header("origin"),
  authorization: c.req.header("authorization"),
})

/** The fetch callback of a listener: it tells the app which listener its requests come through. */
export const through =
  (app: App, listener: Listener) =>
  (request: Request, bindings: HttpBindings | object): Response | Promise<Response> =>
    // Assigned rather than copied: node-server finds a WebSocket's upgrade by the identity of its
    // bindings.
    app.fetch(request, Object.assign(bindings, { listener }))

const publicBase = (c: Context, publicUrl: string | undefined): string =>
  publicUrl?.replace(/\/$/, "") ?? `http://${c.req.header("host") ?? "localhost"}`

/** Lets in who may come in, whatever face answers. */
const guard =
  (parts: AppParts): MiddlewareHandler<AppEnv> =>
  async (c, next) => {
    c.header("cache-control", "no-store")
    c.header("x-content-type-options", "nosniff")
    const arrival = arrivalOf(c)
    if (isOpen(c.req.path)) checkOrigin(arrival, parts.publicUrl())
    else {
      const found = await admit(parts, arrival, () => c.req.raw.signal)
      c.set("who", found.who)
      const bearer = readBearer(arrival.authorization)
      const { outgoing } = c.env ?? {}
      // However long the answer lasts, it is cut when its credential ends. The call behind it sees
      // a client that went away.
      if (outgoing && bearer !== undefined)
        outgoing.once(
          "close",
          parts.credentialWatch.whileValid(bearer, found, () => outgoing.destroy()),
        )
    }
    await next()
  }

function answerErrors(app: App, { publicUrl, issuer, log }: AppParts): void {
  app.onError((error, c) => {
    const fault = asFault(error)
    if (!(error instanceof Fault)) log.error({ err: error, path: c.req.path }, "request failed")
    if (fault.code === "Unauthenticated") {
      const hasToken = c.req.header("authorization") !== undefined
      const base = publicBase(c, publicUrl())
      c.header("www-authenticate", challengeOf(base, c.req.path, issuer(), hasToken))
    }
    if (fault instanceof RateLimited) c.header("retry-after", String(fault.retryAfterSeconds))
    return answerFault(c, fault)
  })
}

/** What is said of the server itself. */
function describeServer(app: App, parts: AppParts): void {
  const { tools, offered, issuer, metrics, publicUrl, ready, version } = parts
  for (const path of [metadataPath, `${metadataPath}/*`])
    app.get(path, (c) => {
      const tokenIssuer = issuer()
      const metadata =
        tokenIssuer === undefined
          ? undefined
          : metadataOf(publicBase(c, publicUrl()), c.req.path, tokenIssuer)
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
}

function serveTools(app: App, routes: readonly Route[], parts: AppParts): void {
  const { invokeAs, admitCodeRoot, log } = parts
  /**
   * Only from whoever administers the fleet: it is a path of this machine, of which other people
   * have no say, and an instance works where its own is.
   */
  const readCodeRoot = (c: Context<AppEnv>): string | undefined => {
    const header = c.req.header(codeRootHeader)
    return header === undefined || may(c.get("who"), "administer") !== true
      ? undefined
      : admitCodeRoot?.(unescapePart(header))
  }
  app.use("/v1/*", async (c, next) => {
    const path = routePath(c)
    for (const route of routes) {
      const inPath = route.method === c.req.method ? route.match(path) : undefined
      if (!inPath) continue
      // A request that cannot be read is a call too: it counts for its caller, and is audited.
      const input = await route.input(c, inPath).catch(asFault)
      const call = { tool: route.tool.name, input, codeRoot: readCodeRoot(c) }
      return answerCall(c, invokeAs(c.get("who")), call, log)
    }
    return next()
  })
}

function answerUnknown(app: App, routes: readonly Route[]): void {
  app.notFound((c) => {
    const path = routePath(c)
    const methods = routes.filter((route) => route.match(path)).map(({ method }) => method)
    if (methods.length === 0) {
      const message = `There is nothing at ${cut(c.req.path, 200)}.`
      return answerFault(c, new Fault("NotFound", message, "GET /openapi.json lists all routes."))
    }
    c.header("allow", methods.join(", "))
    const message = `${c.req.path} does not accept ${c.req.method}.`
    return answerFault(c, new Fault("Invalid", message, `Use ${methods.join(" or ")}.`), 405)
  })
}

/**
 * REST from the tools, and what says how a server is. Routes that are added to it later are guarded
 * likewise.
 */
export function createApp(parts: AppParts): App {
  const app: App = new Hono<AppEnv>()
  const routes = createRoutes(parts.tools)
  answerErrors(app, parts)
  app.use(guard(parts))
  describeServer(app, parts)
  serveTools(app, routes, parts)
  answerUnknown(app, routes)
  return app
}
