import type { Tool } from "../src/core/tool.ts"
import audit from "./audit.ts"
import createToken from "./create_token.ts"
import fleetStatus from "./fleet_status.ts"
import inspectInstance from "./inspect_instance.ts"
import listInstances from "./list_instances.ts"
import listTokens from "./list_tokens.ts"
import messageInstances from "./message_instances.ts"
import pauseInstances from "./pause_instances.ts"
import readEvents from "./read_events.ts"
import readLogs from "./read_logs.ts"
import readMessages from "./read_messages.ts"
import resumeInstances from "./resume_instances.ts"
import revokeToken from "./revoke_token.ts"
import spawnInstance from "./spawn_instance.ts"
import stopInstances from "./stop_instances.ts"
import trees from "./trees.ts"
import updateInstance from "./update_instance.ts"
import waitForInstances from "./wait_for_instances.ts"

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
