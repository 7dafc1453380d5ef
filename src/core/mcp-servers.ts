import { z } from "zod"

/**
 * MCP servers from outside, as the control plane tells them to a supervisor: for its project, with
 * its secrets filled in.
 */

/** How an agent knows the fleet's own tools: `mcp__blackbox5__fleet_status`. */
export const fleetServer = "blackbox5"

const stdioSchema = z.strictObject({
  command: z.string(),
  args: z.array(z.string()),
  env: z.record(z.string(), z.string()),
})
const httpSchema = z.strictObject({ url: z.string(), headers: z.record(z.string(), z.string()) })
export const mcpServerSchema = z.strictObject({
  name: z.string(),
  /** It has a secret: the agent reaches it through its supervisor alone. */
  secret: z.boolean(),
  at: z.union([stdioSchema, httpSchema]),
})
export type McpServer = z.output<typeof mcpServerSchema>
export type StdioServer = z.output<typeof stdioSchema>
export type HttpServer = z.output<typeof httpSchema>
export const mcpServersSchema = z.strictObject({
  servers: z.array(mcpServerSchema),
  /** Those that cannot be used now, and why. */
  left: z.array(z.strictObject({ name: z.string(), why: z.string() })),
})
export type McpServers = z.output<typeof mcpServersSchema>
/**
 * In a supervisor's environment: the names of variables that its loop does not inherit, separated
 * by commas.
 */
export const secretsVariable = "BLACKBOX5_SECRETS"
/**
 * Where a supervisor gets them, with its instance's credential. No tool's route, so that the
 * instance's own port does not lead here.
 */
export const supervisorServersPath = "/supervisor/mcp-servers"
