import { join } from "node:path"
import { z } from "zod"
import { iterationMinutesMaxDefault } from "../core/directive.ts"
import { budgetSchema, childrenSchema } from "../core/instance.ts"
import { namedLoopSchema } from "../core/loop.ts"
import { roles } from "../core/role.ts"
import type { Limits } from "../core/tool.ts"
import { trustedFiltersSchema } from "../core/workspace.ts"
import { type FollowedFile, followFile, parseFile, parseYaml } from "./followed-file.ts"

/**
 * The fleet's policy: one YAML file, `policy.yaml`, which is checked and reread when it changes.
 */

const reserved = "ralf"
/** Tokens and keys travel over it, so it must be TLS or stay on this machine. */
const protectedUrl = z
  .url()
  .refine(
    (text) => /^(https:|http:\/\/(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(\/|$))/.test(text),
    "must be https, or http on loopback",
  )
export const policySchema = z.strictObject({
  /** How many loops may run at once. */
  instancesMax: z.int().min(1).max(10_000).default(50),
  /** How many iterations may run at once, in the whole fleet. */
  turnsMax: z.int().min(1).max(1000).default(4),
  /** Minutes after which an iteration is ended. Time in which it is frozen does not count. */
  iterationMinutesMax: z.number().positive().max(100_000).default(iterationMinutesMaxDefault),
  /**
   * Whether agents continue by themselves when a rate limit ends. `hold`: they wait until somebody
   * resumes them.
   */
  afterRateLimit: z.enum(["continue", "hold"]).default("continue"),
  /** For instances spawned without a budget. */
  budget: budgetSchema.default({ usd: 10 }),
  /** What an instance may spawn, unless its spec says otherwise. */
  children: childrenSchema.default({ depth: 2, total: 20, running: 4 }),
  model: z.string().min(1).max(200).optional(),
  /** The absolute path of the real claude. Default: the first on PATH. */
  claude: z.string().startsWith("/", "must be an absolute path").optional(),
  /** How usage is charged. `auto`: by the token if the environment has an API key. */
  billing: z.enum(["auto", "subscription", "metered"]).default("auto"),
  /**
   * `auto`: the strongest that works on this machine. `off`: none, for loops that need setuid
   * programs such as sudo, which a user namespace disables.
   */
  isolation: z.enum(["auto", "off"]).default("auto"),
  /**
   * Beginnings of words to hide in answers and logs, besides the well-known kinds of credentials.
   */
  redact: z
    .array(
      z
        .string()
        .regex(/^[^\s"'`<>]{4,100}$/, "must be 4 to 100 characters without spaces, quotes, < or >"),
    )
    .max(50)
    .default([]),
  /** Git filters that only a repository's own configuration defines, with their exact commands. */
  trustedFilters: trustedFiltersSchema.default({}),
  /** The URL to which `owner/name` is appended when a repository is cloned. */
  repositories: z
    .string()
    .regex(
      /^(?:https|ssh|file):\/\/(?![^/]*:[^/]*@)\S*\/$/,
      "must be an https, ssh or file URL without a password that ends with a slash",
    )
    .default("https://github.com/"),
  /**
   * Where people on other machines reach this fleet. Their Host and Origin headers must match it.
   */
  publicUrl: protectedUrl
    .refine((text) => URL.parse(text)?.pathname === "/", "must not have a path")
    .optional(),
  /** The identity provider, and the role for each value of a claim. There is no default role. */
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
  /** How long the audit is kept, in days and in MiB. */
  audit: z
    .strictObject({
      keepDays: z.number().positive().max(36_500).default(400),
      megabytesMax: z.int().min(1).max(1_000_000).default(256),
    })
    .default({ keepDays: 400, megabytesMax: 256 }),
  /** Loops besides `ralf`. A relative program path starts at the code root. */
  loops: z
    .record(z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/), namedLoopSchema)
    .refine((loops) => !(reserved in loops), `the name ${reserved} is reserved`)
    .default({}),
})
export type Policy = z.output<typeof policySchema>

export const policyPath = (directory: string): string => join(directory, "policy.yaml")

type Parsed = { readonly policy: Policy } | { readonly refused: string }
const asPolicy = (parsed: ReturnType<typeof parseYaml<typeof policySchema>>): Parsed =>
  "value" in parsed ? { policy: parsed.value } : parsed
/** The policy, or why the text is invalid. */
export const parsePolicy = (text: string): Parsed => asPolicy(parseYaml(policySchema, text))
/** The policy as it is now, without following it. */
export const readPolicy = (directory: string): Parsed =>
  asPolicy(parseFile(policySchema, policyPath(directory)))

export interface PolicyFile extends FollowedFile<Policy> {
  limits(): Omit<Limits, "isolation">
}

/** Reads the policy, and follows its file until the signal. */
export function followPolicy(
  directory: string,
  report: (message: string) => void,
  signal: AbortSignal,
): PolicyFile {
  const file = followFile(
    { path: policyPath(directory), name: "policy.yaml", schema: policySchema, report },
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
      billing: billing === "auto" ? detectBilling() : billing,
      ...(refused !== undefined && { refused }),
    }
  }
  return { ...file, limits }
}

const detectBilling = (): "metered" | "subscription" =>
  process.env.ANTHROPIC_API_KEY ? "metered" : "subscription"
