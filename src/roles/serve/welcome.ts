import type { LocalControlPlane } from "../../assemble/local.ts"
import { counted, oneLine } from "../../core/view.ts"
import type { Config } from "../../settings/config.ts"
import { version } from "../../settings/version.ts"
import { connectLine, shellLine } from "../client-entry.ts"

const projectsShown = 12

/** What a person sees after starting `serve`: where it is, what it found, how to connect. */
export async function welcome(
  config: Config,
  { codeRoot, projects, policy }: LocalControlPlane,
  url: string,
): Promise<string> {
  const names = await projects.list().catch(() => [])
  const shown = names.slice(0, projectsShown).join(", ")
  const more = names.length > projectsShown ? ` and ${names.length - projectsShown} more` : ""
  const limits = policy.limits()
  const invalid =
    limits.refused === undefined
      ? []
      : [`               INVALID, so the defaults are in force: ${oneLine(limits.refused, 500)}`]
  return [
    "",
    `  Blackbox5 ${version} is running.`,
    "",
    `  Code root    ${codeRoot ?? "none found: start in a checkout, or pass --code-root"}`,
    `  Projects     ${names.length > 0 ? shown + more : "none yet"}`,
    `  Policy       ${policy.path}: at most ${counted(limits.instancesMax, "instance")} and ${counted(limits.turnsMax, "iteration")} at once`,
    ...invalid,
    `  State        ${config.stateDirectory}`,
    `  REST         ${url}   (documented at /openapi.json)`,
    `  MCP          ${url}/mcp   (Streamable HTTP)`,
    "  Bearer       for both: the file `token` in the state directory",
    "",
    "  To connect Claude Code or Claude Desktop:",
    `    ${connectLine(config, codeRoot, "claude-code")}`,
    `    ${connectLine(config, codeRoot, "claude-desktop")}`,
    "",
    `  Then ask: "What are the agents doing?" or "Start an agent on ${names[0] ?? "my project"} that ...".`,
    "  To watch the fleet in a terminal, or to check this machine:",
    `    ${shellLine(config, "top")}`,
    `    ${shellLine(config, "doctor")}`,
    "",
    "  Ctrl-C stops the control plane; the agents keep running.",
    "",
    "",
  ].join("\n")
}
