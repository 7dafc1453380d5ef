import { z } from "zod"

/**
 * What decides that a loop is complete. `marker`: the agent's last word, which has to say that the
 * goal is reached; the exit code says nothing, for the public RALF script also exits 0 when its own
 * context budget is used up. `exit`: the loop's exit code 0.
 */
export const completionSchema = z.enum(["marker", "exit"])
export type Completion = z.output<typeof completionSchema>

const argvSchema = z.array(z.string()).min(1)
/** Whoever writes a loop decides what its exit code means, so `exit` is the default. */
const loopSchema = z.strictObject({
  command: argvSchema,
  completion: completionSchema.default("exit"),
})
/**
 * A loop of the policy; `command` is argv, in which `{project}` stands for the project's directory.
 */
export type NamedLoop = z.output<typeof loopSchema>

/**
 * A loop as people write it: argv alone, or an object. Not a union, whose findings would not say
 * where the mistake is.
 */
export const namedLoopSchema = z.unknown().transform((value, context): NamedLoop => {
  const parsed = Array.isArray(value)
    ? argvSchema
        .transform((command): NamedLoop => ({ command, completion: "exit" }))
        .safeParse(value)
    : loopSchema.safeParse(value)
  if (parsed.success) return parsed.data
  for (const { path, message } of parsed.error.issues)
    context.issues.push({ code: "custom", path: [...path], message, input: value })
  return z.NEVER
})

/**
 * Reason of a run whose loop ended before it had called claude once: no success, whatever its exit
 * code is.
 */
export const ranNoClaude = "RanNoClaude"
