import { z } from "zod"
import { failureSchema, finalMessageSchema } from "../core/iteration-outcome.ts"
import { hookSchema } from "../core/mail.ts"
import { renamedField } from "../core/renamed-field.ts"
import { transcriptSchema } from "./usage-file.ts"

export const processIdSchema = z.strictObject({ pid: z.int(), startTicks: z.int() })

const turnFields = z.strictObject({
  id: z.string(),
  shim: processIdSchema,
  iteration: z.int(),
  /** When it began, by the clock as it is now. */
  sinceMs: z.int(),
  /** For how long it did not run since: frozen, or the machine slept. */
  notRunMs: z.int().optional(),
  stops: z.int(),
  /** True until claude has asked its hook for the prompt: without that, no mail reaches it. */
  unheard: z.boolean().optional(),
  /** Digest of the goal and the orders that the model was given. */
  told: z.string().optional(),
  /** The model's last message, and what failed after it. */
  said: finalMessageSchema.optional(),
  failure: failureSchema.optional(),
  /** The model was there: it used a tool. */
  worked: z.boolean().optional(),
  /**
   * Claude's own record of this iteration: the file, and how long it was before the model was
   * asked.
   */
  transcript: transcriptSchema.optional(),
  /** While its processes stand still: since when, and how long it had run by then. */
  still: z.strictObject({ sinceMs: z.int(), ranMs: z.int() }).optional(),
  /** Long standstills that the model has not been told yet. */
  stood: z.array(z.strictObject({ fromMs: z.int(), toMs: z.int() })).optional(),
  /**
   * Claude spoke its last word, and nothing was heard of it since: when, after how much time that
   * it ran, and by the clock of the machine's start.
   */
  stopped: z
    .strictObject({ atMs: z.int(), ranMs: z.int(), sinceBootMs: z.int(), failed: z.boolean() })
    .optional(),
  /** People were told that half of its time is over. */
  halfTold: z.boolean().optional(),
  /** Why it is being ended from outside. */
  overdue: z
    .strictObject({ why: z.enum(["Stopped", "Failed", "TooLong"]), message: z.string() })
    .optional(),
  /**
   * Mail that was offered at a hook in this iteration: `given` once the answer went out, `proved`
   * once the model is known to have read it.
   */
  offered: z.array(
    z.preprocess(
      renamedField("door", "hook"),
      z.strictObject({
        mail: z.string(),
        hook: hookSchema,
        atMs: z.int(),
        given: z.boolean().default(true),
        proved: z.boolean(),
      }),
    ),
  ),
})
/**
 * The running iteration, as its supervisor keeps it for a successor. Supervisors up to 0.2 call the
 * shim a turnstile, and a hook a door.
 */
export const turnSchema = z.preprocess(renamedField("turnstile", "shim"), turnFields)
export type TurnFile = z.output<typeof turnSchema>
