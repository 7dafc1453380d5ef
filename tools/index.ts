import type { Tool } from "../src/core/tool.ts"
import audit from "./admin/audit.ts"
import createToken from "./admin/create_token.ts"
import listTokens from "./admin/list_tokens.ts"
import revokeToken from "./admin/revoke_token.ts"
import trees from "./admin/trees.ts"
import fleetStatus from "./fleet/fleet_status.ts"
import inspectInstance from "./fleet/inspect_instance.ts"
import listInstances from "./fleet/list_instances.ts"
import messageInstances from "./fleet/message_instances.ts"
import pauseInstances from "./fleet/pause_instances.ts"
import readEvents from "./fleet/read_events.ts"
import readLogs from "./fleet/read_logs.ts"
import readMessages from "./fleet/read_messages.ts"
import resumeInstances from "./fleet/resume_instances.ts"
import spawnInstance from "./fleet/spawn_instance.ts"
import stopInstances from "./fleet/stop_instances.ts"
import updateInstance from "./fleet/update_instance.ts"
import waitForInstances from "./fleet/wait_for_instances.ts"

/** Every operation there is, in the order in which a reader meets them. */
export const tools: readonly Tool[] = [
  fleetStatus,
  spawnInstance,
  listInstances,
  inspectInstance,
  updateInstance,
  messageInstances,
  readMessages,
  waitForInstances,
  pauseInstances,
  resumeInstances,
  stopInstances,
  readLogs,
  readEvents,
  createToken,
  listTokens,
  revokeToken,
  audit,
  trees,
]
