import { join } from "node:path"
import { z } from "zod"
import { iterationMinutesMaxDefault } from "../core/directive.ts"
import { budgetSchema, childrenSchema } from "../core/instance.ts"
import { namedLoopSchema } from "../core/loop.ts"
import { roles } from "../core/role.ts"
import type { Limits } from "../core/tool.ts"
import { trustedFiltersSchema } from "../core/workspace.ts"
import { type FollowedFile, followFile, parseFile, parseYaml } from "./followed-file.ts"

/** The fleet's policy: one YAML file, `policy.yaml`, checked and read again whenever it changes. */

const reserved = "ralf"
/** Tokens and keys cross it: TLS, or this machine. */
const protectedUrl = z
  .url()
  .refine(
    (text) => /^(https:|http:\/\/(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(\/|$))/.test(text),
    "https, or http on loopback",
  )
export const policySchema = z.strictObject({
  /** Instances that may have a running loop at once. */
  instancesMax: z.int().min(1).max(10_000).default(50),
  /** Iterations that may run at once, in the whole fleet. */
  turnsMax: z.int().min(1).max(1000).default(4),
  /**
   * Minutes that one iteration may run, the time that it stands still not counted; then it is
   * ended.
   */
  iterationMinutesMax: z.number().positive().max(100_000).default(iterationMinutesMaxDefault),
  /**
   * Whether agents go on by themselves when a limit of the model is over; `hold`: they wait until
   * somebody resumes them.
   */
  afterRateLimit: z.enum(["continue", "hold"]).default("continue"),
  /** What an instance may use when nobody says. */
  budget: budgetSchema.default({ usd: 10 }),
  /** What an instance may spawn when nobody says. */
  children: childrenSchema.default({ depth: 2, total: 20, running: 4 }),
  model: z.string().min(1).max(200).optional(),
  /** The real claude, an absolute path; without it the first on PATH. */
  claude: z.string().startsWith("/", "an absolute path").optional(),
  /**
   * Whether usage is charged by the token; `auto` means: yes where an API key is in the
   * environment.
   */
  billing: z.enum(["auto", "subscription", "metered"]).default("auto"),
  /**
   * `auto`: the strongest that works here. `off`: none, for loops that need setuid programs (sudo),
   * which a user namespace disables.
   */
  isolation: z.enum(["auto", "off"]).default("auto"),
  /**
   * How words begin that no answer and no log line shows, besides the credentials that are known
   * everywhere.
   */
  redact: z
    .array(
      z
        .string()
        .regex(/^[^\s"'`<>]{4,100}$/, "4 to 100 characters without blanks, quotes, < and >"),
    )
    .max(50)
    .default([]),
  /**
   * Filters of a repository's own configuration that a checkout may run, with their very commands.
   */
  trustedFilters: trustedFiltersSchema.default({}),
  /** What `owner/name` is appended to when a repository is cloned. */
  repositories: z
    .string()
    .regex(
      /^(?:https|ssh|file):\/\/(?![^/]*:[^/]*@)\S*\/$/,
      "a URL of https, ssh or file without a password, with a slash at its end",
    )
    .default("https://github.com/"),
  /**
   * Where people elsewhere reach this fleet, without a path: what their Host and Origin headers may
   * say.
   */
  publicUrl: protectedUrl.refine((text) => URL.parse(text)?.pathname === "/", "no path").optional(),
  /**
   * Whose word on people is taken, and what it makes them: by a claim's values, for there is no
   * default.
   */
  oidc: z
    .strictObject({
      issuer: protectedUrl,
      audience: z.string().min(1).max(500),
      roles: z.strictObject({
        claim: z.string().min(1).max(200).default("groups"),
        map: z.record(z.string().min(1).max(200), z.enum(roles)),
      }),
    })
    .optional(),
  /** How much of the audit is kept: so many days, and so many MiB at most. */
  audit: z
    .strictObject({
      keepDays: z.number().positive().max(36_500).default(400),
      megabytesMax: z.int().min(1).max(1_000_000).default(256),
    })
    .default({ keepDays: 400, megabytesMax: 256 }),
  /** More loops than `ralf`. A program with a relative path is looked for in the code root. */
  loops: z
    .record(z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/), namedLoopSchema)
    .refine((loops) => !(reserved in loops), `the name ${reserved} is taken`)
    .default({}),
})
export type Policy = z.output<typeof policySchema>

export const policyPath = (directory: string): string => join(directory, "policy.yaml")

type Parsed = { readonly policy: Policy } | { readonly refused: string }
const named = (parsed: ReturnType<typeof parseYaml<typeof policySchema>>): Parsed =>
  "value" in parsed ? { policy: parsed.value } : parsed
/** The policy, or why the text is none. */
export const parsePolicy = (text: string): Parsed => named(parseYaml(policySchema, text))
/** The policy as its file reads now: for those who only look. */
export const readPolicy = (directory: string): Parsed =>
  named(parseFile(policySchema, policyPath(directory)))

export interface PolicyFile extends FollowedFile<Policy> {
  limits(): Omit<Limits, "isolation">
}

/** Reads the policy and follows its file until the signal. */
export function followPolicy(
  directory: string,
  report: (message: string) => void,
  signal: AbortSignal,
): PolicyFile {
  const file = followFile(
    { path: policyPath(directory), name: "policy", schema: policySchema, report },
    signal,
  )
  const limits = (): Omit<Limits, "isolation"> => {
    const { instancesMax, turnsMax, loops, budget, children, model, billing } = file.current()
    const refused = file.refused()
    return {
      instancesMax,
      turnsMax,
      loops: [reserved, ...Object.keys(loops)],
      defaultLoop: reserved,
      budget,
      children,
      ...(model !== undefined && { model }),
      billing:
        billing === "auto" ? (process.env.ANTHROPIC_API_KEY ? "metered" : "subscription") : billing,
      ...(refused !== undefined && { refused }),
    }
  }
  return { ...file, limits }
}
