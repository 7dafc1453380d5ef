import { existsSync } from "node:fs"
import { styleText } from "node:util"
import { previewCodeRoot } from "../assemble/code-root-preview.ts"
import { exchange } from "../client/exchange.ts"
import { endpointAt } from "../core/endpoint.ts"
import { noProgress } from "../core/tool.ts"
import { clean, counted } from "../core/view.ts"
import { codeRootOf } from "../host/find-code-root.ts"
import { type Config, lastingEnvironment, readConfig } from "../settings/config.ts"
import { type Policy, policyPath, policySchema, readPolicy } from "../settings/policy.ts"
import { version } from "../settings/version.ts"
import { type Finding, fail, failWith, guarded, ok, warn } from "./doctor/check.ts"
import { checkClaude, checkHooks, checkRoot, managedSettings } from "./doctor/claude.ts"
import { checkCommand } from "./doctor/command.ts"
import {
  checkDisk,
  checkGit,
  checkIdentity,
  checkIsolation,
  checkServe,
  checkState,
} from "./doctor/machine.ts"
import { columns, terminalWidth } from "./layout.ts"
import { helpFlag, parseArguments, showUsage, usageError } from "./parse-args.ts"

const usage = `usage: blackbox5 doctor [--json]

Checks that this machine has what agents need. It changes nothing and starts nothing.
  --json  print the findings as JSON
`
const projectsShown = 10

/** The code root, and what prevents loops from starting on its projects. */
async function checkCodeRoot(config: Config, policy: Policy): Promise<readonly Finding[]> {
  const path = codeRootOf(config)
  if (path === undefined)
    return [
      warn(
        "code root",
        "None is set, and there is none around this directory.",
        "Run this in a checkout, or set BLACKBOX5_CODE_ROOT.",
      ),
    ]
  const root = previewCodeRoot(path, policy)
  const projects = root.list()
  if (projects.length === 0)
    return [
      warn(
        "code root",
        `${path} has no projects.`,
        "Create one below 5-project-memory, or use a git repository as the code root.",
      ),
    ]
  const shown = projects.slice(0, projectsShown)
  const found = ok(
    "code root",
    `${path}: ${shown.join(", ")}${projects.length > shown.length ? ` and ${projects.length - shown.length} more` : ""}`,
  )
  const loops = ["ralf", ...Object.keys(policy.loops)]
  // Each finding once, because many projects share the same loop.
  const findings = new Map<string, Finding>()
  for (const [project, loop] of [
    ...shown.map((one) => [one, "ralf"] as const),
    ...loops.map((one) => [shown[0] ?? "", one] as const),
  ])
    try {
      const finding = ok("loop", clean(root.resolve({ project, loop }).loop))
      findings.set(finding.what, finding)
    } catch (error) {
      const problem = failWith("loop", error)
      findings.set(problem.what, problem)
    }
  return [found, ...findings.values()]
}

/** A control plane elsewhere, whose machine needs a doctor of its own. */
async function checkRemote(remote: NonNullable<Config["remote"]>): Promise<Finding> {
  try {
    const call = { signal: AbortSignal.timeout(10_000), progress: noProgress }
    const { version: theirs } = await exchange(
      endpointAt(remote.url, remote.bearer),
      { method: "GET", path: "/healthz" },
      call,
    )
    return ok(
      "serve",
      `BLACKBOX5_URL is ${remote.url}, which runs version ${theirs}; this is ${version}`,
    )
  } catch (error) {
    return failWith("serve", error)
  }
}

async function examine(): Promise<readonly Finding[]> {
  const environment = lastingEnvironment()
  let config: Config | undefined
  let settings: Finding = ok("settings", "valid")
  try {
    config = readConfig()
  } catch (error) {
    settings = failWith("settings", error)
  }
  const found = config ? readPolicy(config.configDirectory) : { policy: policySchema.parse({}) }
  const policy = "policy" in found ? found.policy : policySchema.parse({})
  const path = config ? policyPath(config.configDirectory) : ""
  const groups: readonly (readonly Finding[] | Promise<readonly Finding[]>)[] = [
    [ok("node", `${process.version} at ${process.execPath}`), settings],
    "policy" in found
      ? [
          ok(
            "policy",
            `${existsSync(path) ? path : "the defaults"}: at most ${counted(policy.instancesMax, "instance")} and ${counted(policy.turnsMax, "iteration")} at once`,
          ),
        ]
      : [
          fail(
            "policy",
            `${path}: ${clean(found.refused)}`,
            "Fix that line. Until then, the previous policy or the defaults are in force.",
          ),
        ],
    guarded("claude", () => checkClaude(policy.claude, environment)),
    [checkRoot(process.getuid?.(), environment), checkHooks(managedSettings(process.platform))],
    guarded("git", async () => {
      const git = await checkGit(environment)
      return git.state === "FAIL"
        ? [git]
        : [git, await checkIdentity(environment, (config && codeRootOf(config)) ?? "/")]
    }),
    guarded("command", () => [checkCommand()]),
    guarded("code root", () => (config ? checkCodeRoot(config, policy) : [])),
    guarded("isolation", async () => [await checkIsolation(config, policy)]),
    ...(process.platform === "linux"
      ? []
      : [
          [
            warn(
              "system",
              `Pausing and stopping agents works only on Linux; this is ${process.platform}.`,
              "Run serve in a Linux virtual machine.",
            ),
          ],
        ]),
    guarded("state", () => (config ? checkState(config) : [])),
    guarded("disk", () =>
      config ? checkDisk([config.stateDirectory, ...[codeRootOf(config) ?? []].flat()]) : [],
    ),
    guarded("serve", async () => {
      if (config?.remote) return [await checkRemote(config.remote)]
      return config ? checkServe(config) : []
    }),
  ]
  return (await Promise.all(groups)).flat()
}

const longestState = 4

/**
 * On a terminal, `next` is a line of its own that is not wrapped, so that it can be copied. A pipe
 * gets one line for each finding.
 */
function render({ check, state, what, next }: Finding, longest: number): string {
  const width = terminalWidth()
  // styleText adds no colours without a terminal, or with NO_COLOR.
  const mark = styleText(colours[state], state, { stream: process.stdout })
  const row = (text: string): string =>
    mark +
    columns([[state.padEnd(longestState), check.padEnd(longest), text]], width).slice(state.length)
  if (next === undefined) return row(what)
  return width === undefined
    ? row(`${what} Next: ${next}`)
    : `${row(what)}\n${" ".repeat(longestState)}  next: ${next}`
}

const colours = { ok: "green", warn: "yellow", FAIL: "red" } as const

/**
 * `blackbox5 doctor [--json]`. Exit code 0: agents can work; 1: a check failed; 2: a usage error.
 */
export async function doctor(argv: readonly string[]): Promise<number> {
  const parsed = parseArguments(argv, { ...helpFlag, json: { type: "boolean", default: false } })
  if (typeof parsed === "string") return usageError(parsed, usage)
  const { values, positionals } = parsed
  if (values.help) return showUsage(usage)
  if (positionals.length > 0)
    return usageError(`doctor does not take ${JSON.stringify(positionals[0])}.`, usage)
  const findings = await examine()
  const failed = findings.filter(({ state }) => state === "FAIL").length
  if (values.json)
    process.stdout.write(`${JSON.stringify({ ok: failed === 0, version, findings }, null, 2)}\n`)
  else {
    const longest = Math.max(...findings.map(({ check }) => check.length))
    for (const finding of findings) process.stdout.write(`${render(finding, longest)}\n`)
    process.stdout.write(
      failed === 0
        ? "This machine is ready for agents.\n"
        : `${failed} of ${counted(findings.length, "check")} failed. Agents cannot work until this is fixed.\n`,
    )
  }
  return failed === 0 ? 0 : 1
}
