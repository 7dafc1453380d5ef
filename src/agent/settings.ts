import { readFileSync } from "node:fs"
import { homedir } from "node:os"
import { dirname, join } from "node:path"
import { z } from "zod"
import { openingPartsMax } from "../core/delivery.ts"
import { fleetServer } from "../core/mcp-servers.ts"

/**
 * What claude is given as `--settings`. There, `env` and `disableAllHooks` win over a person's and
 * a project's own settings, which would otherwise silence the hooks and the meter, or send the
 * model's key elsewhere.
 */

/** What is read of claude's settings; all else goes through. */
export const settingsSchema = z.looseObject({
  env: z.record(z.string(), z.coerce.string()).optional(),
  hooks: z.record(z.string(), z.array(z.unknown())).optional(),
  permissions: z.looseObject({ allow: z.array(z.string()).optional() }).optional(),
})
export type Settings = z.output<typeof settingsSchema>

/** The events of Claude Code at which mail, activity, markers and failures are seen. */
const hookEvents = [
  "UserPromptSubmit",
  "PreToolUse",
  "PostToolUse",
  "PostToolUseFailure",
  "PostToolBatch",
  "Stop",
  "StopFailure",
]
/**
 * What claude waits for an answer at most. It comes in milliseconds, unless the supervisor stands
 * still: then a tool call passes three hooks, of which the first gives no mail.
 */
const hookSeconds = {
  PreToolUse: 0.3,
  PostToolUse: 0.7,
  PostToolUseFailure: 0.7,
  PostToolBatch: 0.95,
  otherwise: 10,
}
const secondsOf = (event: string): number =>
  new Map(Object.entries(hookSeconds)).get(event) ?? hookSeconds.otherwise

/** The supervisor's loopback port. */
export interface PortAccess {
  readonly port: number
  readonly token: string
}

/**
 * How claude tells the supervisor what it uses, in the variables of OpenTelemetry; the path says
 * whose use it is.
 */
const telemetry = (url: string, token: string, path: string): Record<string, string> => ({
  CLAUDE_CODE_ENABLE_TELEMETRY: "1",
  OTEL_LOGS_EXPORTER: "otlp",
  OTEL_METRICS_EXPORTER: "none",
  OTEL_TRACES_EXPORTER: "none",
  OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
  OTEL_EXPORTER_OTLP_LOGS_PROTOCOL: "http/json",
  OTEL_EXPORTER_OTLP_ENDPOINT: url,
  OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: `${url}${path}`,
  OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer ${token}`,
  OTEL_EXPORTER_OTLP_LOGS_HEADERS: `authorization=Bearer ${token}`,
  // The SDK's own defaults, in milliseconds and records; the interval lets a use be seen soon.
  OTEL_EXPORTER_OTLP_TIMEOUT: "10000",
  OTEL_EXPORTER_OTLP_LOGS_TIMEOUT: "10000",
  OTEL_BLRP_MAX_QUEUE_SIZE: "2048",
  OTEL_LOGS_EXPORT_INTERVAL: "500",
})
/**
 * Where telemetry of an iteration's own claude goes, and of those that it calls: these use up the
 * same budget, but prove nothing.
 */
export const logsPath = "/v1/logs"
export const nestedLogsPath = "/nested/logs"

export function settingsFor({ port, token }: PortAccess): Settings {
  const url = `http://127.0.0.1:${port}`
  const hookAt = (path: string, event: string) => ({
    type: "http",
    url: `${url}${path}`,
    headers: { Authorization: `Bearer ${token}` },
    timeout: secondsOf(event),
  })
  const parts = Array.from({ length: openingPartsMax }, (_, index) =>
    hookAt(`/hooks/opening/${index}`, "UserPromptSubmit"),
  )
  return {
    disableAllHooks: false,
    env: telemetry(url, token, logsPath),
    // Without it a loop that does not skip permissions would be refused the fleet's tools: nobody
    // is there to be asked.
    permissions: { allow: [`mcp__${fleetServer}`] },
    hooks: Object.fromEntries(
      hookEvents.map((event) => [
        event,
        [{ hooks: [hookAt("/hooks", event), ...(event === "UserPromptSubmit" ? parts : [])] }],
      ]),
    ),
  }
}
/** For a claude inside an iteration: it has none of our hooks, but is counted. */
export const nestedSettings = (url: string, token: string): Settings => ({
  env: telemetry(url, token, nestedLogsPath),
})

/**
 * Where the model is asked, and by which way. A project may not lead a person's key or our hooks
 * elsewhere.
 */
const wayOutNames = [
  "ANTHROPIC_BASE_URL",
  "ANTHROPIC_BEDROCK_BASE_URL",
  "ANTHROPIC_VERTEX_BASE_URL",
  "ANTHROPIC_FOUNDRY_BASE_URL",
  ...["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"].flatMap((name) => [
    name,
    name.toLowerCase(),
  ]),
  "NODE_EXTRA_CA_CERTS",
  "NODE_TLS_REJECT_UNAUTHORIZED",
  // The variable behind --bare, which skips hooks.
  "CLAUDE_CODE_SIMPLE",
]

const envOf = (path: string): Record<string, string> => read(path)?.env ?? {}
/**
 * What the settings of a project name, here and above: claude may take any of these directories for
 * the project's.
 */
function namedByProjects(directory: string): ReadonlySet<string> {
  const names = new Set<string>()
  for (let at = directory; ; at = dirname(at)) {
    for (const file of ["settings.json", "settings.local.json"])
      for (const name of Object.keys(envOf(join(at, ".claude", file)))) names.add(name)
    if (at === dirname(at)) return names
  }
}

/**
 * What a person's own settings say of it, else the environment that claude is started in. What
 * neither says, but a project does, is empty, which claude takes for unset; no more than that is,
 * because what claude starts might take it for a value.
 */
export function wayOut(env: NodeJS.ProcessEnv, directory: string): Record<string, string> {
  const person = envOf(
    join(env.CLAUDE_CONFIG_DIR || join(env.HOME || homedir(), ".claude"), "settings.json"),
  )
  const named = namedByProjects(directory)
  return Object.fromEntries(
    wayOutNames.flatMap((name) => {
      const value = person[name] ?? env[name] ?? (named.has(name) ? "" : undefined)
      return value === undefined ? [] : [[name, value]]
    }),
  )
}

/**
 * The caller's own `--settings` (a file or JSON) with ours on top: of two, claude counts the last
 * alone. `otherwise` is what holds in `env` where neither says anything.
 */
export function mergeSettings(
  args: readonly string[],
  ours: Settings,
  otherwise: Readonly<Record<string, string>>,
): string[] {
  let merged = ours
  const rest: string[] = []
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? ""
    const next = arg === "--settings" ? args[index + 1] : undefined
    const text =
      next ?? (arg.startsWith("--settings=") ? arg.slice("--settings=".length) : undefined)
    const theirs = text === undefined ? undefined : read(text)
    // What cannot be read is left to claude, which says what is wrong with it.
    if (theirs) merged = onTop(merged, theirs)
    else rest.push(arg, ...(next === undefined ? [] : [next]))
    if (next !== undefined) index++
  }
  return [
    "--settings",
    JSON.stringify({ ...merged, env: { ...otherwise, ...merged.env } }),
    ...rest,
  ]
}

function read(text: string): Settings | undefined {
  try {
    return settingsSchema.safeParse(
      JSON.parse(text.trimStart().startsWith("{") ? text : readFileSync(text, "utf8")),
    ).data
  } catch {
    return undefined
  }
}

function onTop(ours: Settings, theirs: Settings): Settings {
  const hooks = new Map(Object.entries(ours.hooks ?? {}))
  for (const [event, list] of Object.entries(theirs.hooks ?? {}))
    hooks.set(event, [...(hooks.get(event) ?? []), ...list])
  const allow = [...(theirs.permissions?.allow ?? []), ...(ours.permissions?.allow ?? [])]
  return {
    ...theirs,
    ...ours,
    env: { ...theirs.env, ...ours.env },
    hooks: Object.fromEntries(hooks),
    permissions: { ...theirs.permissions, ...ours.permissions, allow },
  }
}
