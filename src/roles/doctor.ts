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
import { type Finding, fail, failWith, looked, ok, warn } from "./doctor/check.ts"
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

Looks at what agents need on this machine, and says what is missing. It changes and starts nothing.
  --json  print the findings as JSON
`
const projectsShown = 10

/** The code root, and what keeps a loop from starting on its projects. */
async function checkCodeRoot(config: Config, policy: Policy): Promise<readonly Finding[]> {
  const path = codeRootOf(config)
  if (path === undefined)
    return [
      warn(
        "code root",
        "None is named, and there is none around here.",
        "Go into a checkout, or set BLACKBOX5_CODE_ROOT.",
      ),
    ]
  const root = previewCodeRoot(path, policy)
  const projects = root.list()
  if (projects.length === 0)
    return [
      warn(
        "code root",
        `${path} has no projects.`,
        "Make one below 5-project-memory, or name a git repository.",
      ),
    ]
  const shown = projects.slice(0, projectsShown)
  const found = ok(
    "code root",
    `${path}: ${shown.join(", ")}${projects.length > shown.length ? ` and ${projects.length - shown.length} more` : ""}`,
  )
  const loops = ["ralf", ...Object.keys(policy.loops)]
  // Each once: what many projects have in common is said of all.
  const told = new Map<string, Finding>()
  for (const [project, loop] of [
    ...shown.map((one) => [one, "ralf"] as const),
    ...loops.map((one) => [shown[0] ?? "", one] as const),
  ])
    try {
      const finding = ok("loop", clean(root.resolve({ project, loop }).loop))
      told.set(finding.what, finding)
    } catch (error) {
      const problem = failWith("loop", error)
      told.set(problem.what, problem)
    }
  return [found, ...told.values()]
}

/** A control plane elsewhere: it has its own machine, and doctor. */
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
      `BLACKBOX5_URL names ${remote.url}, which answers with version ${theirs}; this is ${version}`,
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
            `${existsSync(path) ? path : "the defaults"}: ${counted(policy.instancesMax, "instance")}, ${counted(policy.turnsMax, "iteration")} at once`,
          ),
        ]
      : [
          fail(
            "policy",
            `${path}: ${clean(found.refused)}`,
            "Correct that line; until then the policy before, or the defaults, are in force.",
          ),
        ],
    looked("claude", () => checkClaude(policy.claude, environment)),
    [checkRoot(process.getuid?.(), environment), checkHooks(managedSettings(process.platform))],
    looked("git", async () => {
      const git = await checkGit(environment)
      return git.state === "FAIL"
        ? [git]
        : [git, await checkIdentity(environment, (config && codeRootOf(config)) ?? "/")]
    }),
    looked("command", () => [checkCommand()]),
    looked("code root", () => (config ? checkCodeRoot(config, policy) : [])),
    looked("isolation", async () => [await checkIsolation(config, policy)]),
    ...(process.platform === "linux"
      ? []
      : [
          [
            warn(
              "system",
              `Pausing and ending agents is written for Linux; this is ${process.platform}.`,
              "Run serve in a Linux virtual machine.",
            ),
          ],
        ]),
    looked("state", () => (config ? checkState(config) : [])),
    looked("disk", () =>
      config ? checkDisk([config.stateDirectory, ...[codeRootOf(config) ?? []].flat()]) : [],
    ),
    looked("serve", async () =>
      config === undefined
        ? []
        : config.remote
          ? [await checkRemote(config.remote)]
          : checkServe(config),
    ),
  ]
  return (await Promise.all(groups)).flat()
}

const longestState = 4

/**
 * What to do stands on a line of its own, which only the terminal breaks: so it can be copied. A
 * pipe gets one line for each finding.
 */
function lineOf({ check, state, what, next }: Finding, longest: number): string {
  const width = terminalWidth()
  // styleText leaves colours out where there is no terminal, and where NO_COLOR asks for that.
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
 * `blackbox5 doctor [--json]`. Exit code 0: agents can work; 1: something failed; 2: called
 * wrongly.
 */
export async function doctor(argv: readonly string[]): Promise<number> {
  const words = parseArguments(argv, { ...helpFlag, json: { type: "boolean", default: false } })
  if (typeof words === "string") return usageError(words, usage)
  const { values, positionals } = words
  if (values.help) return showUsage(usage)
  if (positionals.length > 0)
    return usageError(`doctor takes no ${JSON.stringify(positionals[0])}.`, usage)
  const findings = await examine()
  const failed = findings.filter(({ state }) => state === "FAIL").length
  if (values.json)
    process.stdout.write(`${JSON.stringify({ ok: failed === 0, version, findings }, null, 2)}\n`)
  else {
    const longest = Math.max(...findings.map(({ check }) => check.length))
    for (const finding of findings) process.stdout.write(`${lineOf(finding, longest)}\n`)
    process.stdout.write(
      failed === 0
        ? "Agents can work here.\n"
        : `${failed} of ${findings.length} failed: agents cannot work like this.\n`,
    )
  }
  return failed === 0 ? 0 : 1
}
