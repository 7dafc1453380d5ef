import { z } from "zod"

/**
 * What Claude Code posts to a hook of type "http" (code.claude.com/docs, "Hooks"); only what is
 * read here. `agent_id` is a sub-agent's.
 */
export const hookInputSchema = z.looseObject({
  hook_event_name: z.string(),
  agent_id: z.string().optional(),
  transcript_path: z.string().optional(),
  tool_name: z.string().optional(),
  tool_input: z.unknown().optional(),
  last_assistant_message: z.string().optional(),
  error: z.unknown().optional(),
  error_details: z.unknown().optional(),
  /** Of a Stop: what may wake the session again. */
  background_tasks: z.array(z.unknown()).optional(),
  session_crons: z.array(z.unknown()).optional(),
})
export type HookInput = z.output<typeof hookInputSchema>
/** A hook's answer; empty means: go on. */
export type HookAnswer = Record<string, unknown>
