import type { z } from "zod"
import type { Audit } from "./audit-port.ts"
import type { Budget, Children, Instance } from "./instance.ts"
import type {
  Clock,
  Instances,
  KeptTrees,
  Ledger,
  Logs,
  Mailboxes,
  Projects,
  Reports,
  Timeline,
  Tokens,
  Turns,
  Windows,
} from "./ports.ts"
import type { Principal, Verb } from "./principal.ts"
import type { Targets } from "./selector.ts"

export interface Call {
  readonly signal: AbortSignal
  /** The code root that a person's client found where it runs. */
  readonly codeRoot?: string
  progress(done: number, message: string): void
}

/** How a client tells `serve` its code root over HTTP: the path, percent-escaped. */
export const codeRootHeader = "x-blackbox5-code-root"

/** Where a supervisor's port says that it works. */
export const alivePath = "/alive"

/** The `progress` of a call whose caller wants none: a face that sees it need not carry any. */
export const noProgress: Call["progress"] = () => {}

/** What the fleet is bound by now (policy.ts), as far as tools show or use it. */
export interface Limits {
  readonly instancesMax: number
  readonly turnsMax: number
  readonly loops: readonly string[]
  readonly defaultLoop: string
  readonly budget: Budget
  readonly children: Children
  readonly model?: string
  readonly billing: "subscription" | "metered"
  /** What holds an agent's processes together, and what a person must know when it is weak. */
  readonly isolation: { readonly kind: string; readonly warning?: string }
  /** What a full disk means now; absent while there is room. */
  readonly disk?: { readonly warning: string; readonly held: number }
  /** Why a file that people wrote, the policy or another, is not in force as it stands on disk. */
  readonly refused?: string
}

/**
 * What a handler has. `targets` were found and authorized by invoke: a handler never looks a name
 * up.
 */
export interface ToolContext extends Call {
  readonly who: Principal
  readonly targets: readonly Instance[]
  visible(): Promise<readonly Instance[]>
  readonly store: Pick<Instances, "create" | "updateSpec" | "delete" | "read" | "replica">
  readonly mailboxes: Mailboxes
  readonly timeline: Timeline
  readonly reports: Reports
  readonly turns: Turns
  readonly logs: Logs
  readonly ledger: Ledger
  readonly clock: Clock
  readonly projects: Projects
  readonly keptTrees: KeptTrees
  readonly windows: Windows
  readonly tokens: Tokens
  readonly auditTrail: Pick<Audit, "last" | "following">
  limits(): Limits
  /** Short, unguessable, unique: `m-3f9k2c`. */
  newId(prefix: string): string
  /** In hex. Given, because core imports nothing that computes one. */
  sha256(text: string): string
}

/** `admin` is for REST and the command line alone: no model administers the fleet. */
export const toolsets = ["fleet", "tasks", "github", "admin"] as const
export type Toolset = (typeof toolsets)[number]

/** A row of a table that people read. */
export type TextRow = Readonly<Record<string, string | number>>

/**
 * One operation. From it come the MCP tool, the REST route, the OpenAPI document, the CLI command,
 * the authorization check, the audit line and the metrics.
 */
export interface Tool<I extends z.ZodObject = z.ZodObject, O extends z.ZodObject = z.ZodObject> {
  readonly name: string
  readonly title: string
  readonly description: string
  readonly toolset: Toolset
  /** A GET's input is flat, for query and flags: decode.ts. */
  readonly route: `${"GET" | "POST" | "PATCH"} /v1/${string}`
  readonly verb: Verb
  readonly input: I
  readonly output: O
  readonly hints: {
    readonly readOnlyHint: boolean
    readonly destructiveHint: boolean
    readonly idempotentHint: boolean
    readonly openWorldHint: boolean
  }
  /** For the audit: names of what a call is about, where that is no instance. */
  subject?(input: z.output<I>): readonly string[]
  /**
   * For the audit: what came of a call, where its targets do not say it. `on` names what it was
   * about, `made` what it made that has no name.
   */
  outcome?(output: z.output<O>): {
    readonly on?: readonly string[]
    readonly made?: readonly string[]
  }
  /**
   * The one field of the output that is a secret made for this caller: it is given as it is, once.
   */
  readonly reveals?: string
  /**
   * The list in its output that the command line prints with --json-lines, one item a line. Its
   * input has `after`, where "" is the beginning, and its output `cursor` and `more`.
   */
  readonly lines?: string
  targets?(input: z.output<I>): Targets
  /**
   * What a person is asked before such a call, where the face can ask; undefined when it needs no
   * asking.
   */
  confirm?(input: z.output<I>): string | undefined
  /** MCP's text part, and the CLI's table. */
  show(output: z.output<O>): { readonly text: string; readonly rows?: readonly TextRow[] }
  handler(ctx: ToolContext, input: z.output<I>): Promise<z.output<O>>
}

export const defineTool = <I extends z.ZodObject, O extends z.ZodObject>(
  tool: Tool<I, O>,
): Tool<I, O> => Object.freeze(tool)

/** Which of the tools a program offers. */
export interface Offer {
  /** Only those that change nothing. */
  readonly readOnly: boolean
  /** Only those of these sets; without them all. */
  readonly toolsets?: readonly Toolset[]
}
export const offers =
  ({ readOnly, toolsets: only }: Offer) =>
  ({ hints, toolset }: Pick<Tool, "hints" | "toolset">): boolean =>
    (!readOnly || hints.readOnlyHint) && (only?.includes(toolset) ?? true)
