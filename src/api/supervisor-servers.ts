import { Fault } from "../core/faults.ts"
import { type McpServers, supervisorServersPath } from "../core/mcp-servers.ts"
import type { Instances } from "../core/ports.ts"
import type { App } from "./app.ts"

/**
 * The route at which a supervisor gets the MCP servers of its instance, secrets included. The app
 * has authenticated the caller before this runs.
 */
export function mountSupervisorServers(
  app: App,
  store: Pick<Instances, "replica">,
  serversOfProject: (project: string) => McpServers,
): void {
  app.get(supervisorServersPath, async (c) => {
    const who = c.get("who")
    const instance = who.kind === "instance" ? store.replica.get(who.id) : undefined
    if (!instance)
      throw new Fault(
        "Forbidden",
        "Only supervisors can call this.",
        "Read mcp-servers.yaml in the configuration directory instead.",
      )
    return c.json(serversOfProject(instance.spec.project))
  })
}
