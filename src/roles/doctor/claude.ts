import { readFileSync } from "node:fs"
import { z } from "zod"
import { errorCode } from "../../core/error-code.ts"
import { oneLine } from "../../core/view.ts"
import { findClaude } from "../../host/find-claude.ts"
import { type Finding, fail, failWith, ok, runProgram, warn } from "./check.ts"

/** Checks that claude can work for a loop. */

/** Managed settings of Claude Code, which override all others: code.claude.com/docs/en/settings. */
export const managedSettings = (platform: NodeJS.Platform): string =>
  platform === "darwin"
    ? "/Library/Application Support/ClaudeCode/managed-settings.json"
    : "/etc/claude-code/managed-settings.json"

const authSchema = z.object({ loggedIn: z.boolean(), authMethod: z.string().optional() })

/** Path, version and login. Costs nothing, because no model is called. */
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
    runProgram(path, ["--version"], env),
    runProgram(path, ["--help"], env),
  ])
  if (version.code !== 0)
    return [
      fail(
        "claude",
        `${path} does not run: ${oneLine(version.output, 200)}`,
        "Reinstall it: npm install -g @anthropic-ai/claude-code",
      ),
    ]
  const found = ok("claude", `${version.output.split("\n")[0]} at ${path}`)
  // A claude without this command would take it for a prompt.
  const auth = /^ +auth\b/m.test(help.output)
    ? parseAuth((await runProgram(path, ["auth", "status", "--json"], env)).output)
    : undefined
  if (!auth)
    return [
      found,
      warn(
        "login",
        "This version of claude cannot say whether you are logged in.",
        "Try `claude -p hello`, or update claude.",
      ),
    ]
  return [
    found,
    auth.loggedIn
      ? ok(
          "login",
          `claude is logged in${auth.authMethod === undefined ? "" : ` (${auth.authMethod})`}; the first iteration shows whether the login is accepted`,
        )
      : fail(
          "login",
          "claude is not logged in.",
          "Run `claude auth login`, or set ANTHROPIC_API_KEY where `blackbox5 serve` starts.",
        ),
  ]
}

function parseAuth(output: string): z.output<typeof authSchema> | undefined {
  try {
    return authSchema.safeParse(JSON.parse(output)).data
  } catch {
    return undefined
  }
}

/** Loops use `--dangerously-skip-permissions`, which claude refuses for root outside a sandbox. */
export function checkRoot(uid: number | undefined, environment: NodeJS.ProcessEnv): Finding {
  if (uid !== 0) return ok("user", `user ${uid ?? "unknown"}, not root`)
  if (environment.IS_SANDBOX === "1") return ok("user", "root, with IS_SANDBOX=1")
  return fail(
    "user",
    "This is root, and claude refuses --dangerously-skip-permissions for root.",
    "Run as another user, or set IS_SANDBOX=1 if this machine is a sandbox.",
  )
}

const managedSchema = z.object({
  allowManagedHooksOnly: z.unknown().optional(),
  disableAllHooks: z.unknown().optional(),
})

/** Agents get their mail and report their work through hooks, which managed settings can forbid. */
export function checkHooks(path: string): Finding {
  let text: string
  try {
    text = readFileSync(path, "utf8")
  } catch (error) {
    return errorCode(error) === "ENOENT"
      ? ok("hooks", "no managed settings forbid them")
      : warn(
          "hooks",
          `Cannot read ${path}, so it is unknown whether it forbids hooks.`,
          "Ask the administrator of this machine.",
        )
  }
  let settings: z.output<typeof managedSchema> | undefined
  try {
    settings = managedSchema.safeParse(JSON.parse(text)).data
  } catch {
    // Reported below.
  }
  if (!settings)
    return warn(
      "hooks",
      `${path} is not valid JSON, so claude may refuse to start.`,
      "Tell the administrator of this machine.",
    )
  const forbidding = (["allowManagedHooksOnly", "disableAllHooks"] as const).filter(
    (name) => settings[name] === true,
  )
  if (forbidding.length === 0) return ok("hooks", `${path} allows them`)
  return fail(
    "hooks",
    `${path} sets ${forbidding.join(" and ")}, so agents would get no mail and every iteration would end as Uncontrolled.`,
    "Ask the administrator of this machine to remove that.",
  )
}
