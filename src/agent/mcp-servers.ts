import { agentNameVariable, agentTokenVariable, agentUrlVariable } from "./turnstile.ts"

/** The MCP servers of an agent: the fleet's own, and those that the fleet's file of servers names. */

/** How the agent knows the fleet's tools: `mcp__blackbox5__fleet_status`. */
export const fleetServer = "blackbox5"

/** What the turnstile gives claude as `--mcp-config`. */
export function mcpConfiguration({ port, token, name }: { port: number; token: string; name: string }): string {
  const fleet = {
    command: process.execPath,
    args: [process.argv[1] ?? "", "mcp"],
    env: {
      [agentUrlVariable]: `http://127.0.0.1:${port}`,
      [agentTokenVariable]: token,
      [agentNameVariable]: name,
    },
    // Claude waits for this server before its first request (without, at most 2 s), and shows its tools without a search for them.
    alwaysLoad: true,
  }
  return JSON.stringify({ mcpServers: { [fleetServer]: fleet } })
}
