import { readFileSync } from "node:fs"
import { z } from "zod"
import { oneLine } from "../../core/view.ts"
import { findClaude } from "../../host/find-claude.ts"
import { ask, type Finding, fail, failWith, ok, warn } from "./check.ts"

/** What claude needs to work for a loop. */

/** Managed settings of Claude Code, which beat every other: code.claude.com/docs/en/settings. */
export const managedSettings = (platform: NodeJS.Platform): string =>
  platform === "darwin"
    ? "/Library/Application Support/ClaudeCode/managed-settings.json"
    : "/etc/claude-code/managed-settings.json"

const authSchema = z.object({ loggedIn: z.boolean(), authMethod: z.string().optional() })

/**
 * Its path and version, and whether somebody is logged in. Costs nothing: the model is not asked.
 */
export async function checkClaude(
  named: string | undefined,
  environment: NodeJS.ProcessEnv,
): Promise<readonly Finding[]> {
  let path: string
  try {
    path = findClaude(named)
  } catch (error) {
    return [failWith("claude", error)]
  }
  const env = {
    ...environment,
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    DISABLE_AUTOUPDATER: "1",
  }
  const [version, help] = await Promise.all([
    ask(path, ["--version"], env),
    ask(path, ["--help"], env),
  ])
  if (version.code !== 0)
    return [
      fail(
        "claude",
        `${path} does not run: ${oneLine(version.said, 200)}`,
        "Install it again: npm install -g @anthropic-ai/claude-code",
      ),
    ]
  const found = ok("claude", `${version.said.split("\n")[0]} at ${path}`)
  // One that has no such command would take it for a prompt.
  const auth = /^ +auth\b/m.test(help.said)
    ? authOf((await ask(path, ["auth", "status", "--json"], env)).said)
    : undefined
  if (!auth)
    return [
      found,
      warn(
        "login",
        "This claude does not say whether somebody is logged in.",
        "Try it: claude -p hello; or update it.",
      ),
    ]
  return [
    found,
    auth.loggedIn
      ? ok(
          "login",
          `claude is logged in${auth.authMethod === undefined ? "" : ` (${auth.authMethod})`}; whether it is accepted shows the first iteration`,
        )
      : fail(
          "login",
          "Nobody is logged in to claude.",
          "Run `claude auth login`, or set ANTHROPIC_API_KEY where `blackbox5 serve` starts.",
        ),
  ]
}

function authOf(said: string): z.output<typeof authSchema> | undefined {
  try {
    return authSchema.safeParse(JSON.parse(said)).data
  } catch {
    return undefined
  }
}

/**
 * claude refuses `--dangerously-skip-permissions`, which loops use, to root outside of a sandbox.
 */
export const checkRoot = (uid: number | undefined, environment: NodeJS.ProcessEnv): Finding =>
  uid !== 0
    ? ok("user", `user ${uid ?? "unknown"}, not root`)
    : environment.IS_SANDBOX === "1"
      ? ok("user", "root, and the environment says IS_SANDBOX=1")
      : fail(
          "user",
          "This is root, to whom claude refuses --dangerously-skip-permissions.",
          "Run as another user, or set IS_SANDBOX=1 if this machine is a sandbox.",
        )

const managedSchema = z.object({
  allowManagedHooksOnly: z.unknown().optional(),
  disableAllHooks: z.unknown().optional(),
})

/**
 * Managed settings that silence other hooks close the doors through which agents get mail and tell
 * what they do.
 */
export function checkHooks(path: string): Finding {
  let text: string
  try {
    text = readFileSync(path, "utf8")
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ENOENT"
      ? ok("hooks", "no managed settings stand in their way")
      : warn(
          "hooks",
          `${path} cannot be read, so whether it forbids hooks is unknown.`,
          "Ask whoever manages this machine.",
        )
  }
  let settings: z.output<typeof managedSchema> | undefined
  try {
    settings = managedSchema.safeParse(JSON.parse(text)).data
  } catch {
    // Told below.
  }
  if (!settings)
    return warn(
      "hooks",
      `${path} is not JSON: claude may refuse to start.`,
      "Tell whoever manages this machine.",
    )
  const silencing = (["allowManagedHooksOnly", "disableAllHooks"] as const).filter(
    (name) => settings[name] === true,
  )
  if (silencing.length === 0) return ok("hooks", `${path} leaves them alone`)
  return fail(
    "hooks",
    `${path} says ${silencing.join(" and ")}: agents would get no mail, and every iteration would end as Uncontrolled.`,
    "Ask whoever manages this machine to take that out.",
  )
}
