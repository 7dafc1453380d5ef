import type { z } from "zod"
import { readInput } from "./decode.ts"
import { asFault, Fault } from "./faults.ts"
import type { Instance } from "./instance.ts"
import type { InstanceStore } from "./ports.ts"
import type { may as mayFunction, Principal } from "./principal.ts"
import { asCallerMeans, checkOneCheckout, matches } from "./selector.ts"
import type { Call, Targets, Tool, ToolContext } from "./tool.ts"
import { cut, presented } from "./view.ts"

/** One operation, called by name. An Invoke belongs to one caller, so no face can forget or forge who calls. */
export type Invoke = (tool: string, input: unknown, call: Call) => Promise<Record<string, unknown>>

export interface Here {
  readonly tools: ReadonlyMap<string, Tool>
  readonly ports: Omit<ToolContext, keyof Call | "who" | "targets" | "visible" | "store"> & { readonly store: InstanceStore }
  readonly may: typeof mayFunction
  /** False for what this control plane was told not to do for anybody. */
  offered(tool: Tool): boolean
  /** A new random word for each result: what fences untrusted text. */
  nonce(): string
  /** `on`: the names of what it was about, as far as they are known. */
  audit(who: Principal, tool: string, on: readonly string[], fault: Fault | undefined): Promise<void>
}

/** zod's findings, one a line, each with its path: `budget.usd: expected number`. */
const explain = (error: z.ZodError): string =>
  error.issues
    .slice(0, 10)
    .map(({ path, message }) => `${path.length > 0 ? `${path.join(".")}: ` : ""}${message}`)
    .join("\n")

/** Validates, finds the targets, authorizes each, runs the handler, cleans what it gives, audits. @throws Fault, and nothing else. */
export const invokeHere =
  ({ tools, ports, may, offered, nonce, audit }: Here) =>
  (who: Principal): Invoke =>
  async (name, raw, call) => {
    const tool = tools.get(name)
    if (!tool) throw new Fault("NotFound", `There is no tool ${JSON.stringify(cut(name, 80))}.`, "List the tools.")
    let on: readonly string[] = []
    let fault: Fault | undefined
    // A stranger is not found, never forbidden.
    const visible = async (): Promise<readonly Instance[]> =>
      (await ports.store.list()).filter((one) => may(who, "outline", one) === true)
    const find = async (wanted: Targets): Promise<readonly Instance[]> => {
      // A description means those of them that the caller may do it to; a name means that one.
      if (!("names" in wanted)) {
        const all = await visible()
        const callers = who.kind === "instance" ? all.find(({ uid }) => uid === who.uid)?.spec.codeRoot : call.codeRoot
        const meant = await asCallerMeans(wanted, callers, ports.projects)
        const found = all.filter(matches(meant)).filter((one) => may(who, tool.verb, one) === true)
        if (!tool.hints.readOnlyHint) checkOneCheckout(meant, found)
        return found
      }
      const names = [...new Set(wanted.names)]
      const found = (await Promise.all(names.map((one) => ports.store.get(one)))).filter((one) => one !== undefined)
      const seen = found.filter((one) => may(who, "outline", one) === true)
      const missing = names.filter((one) => !seen.some((instance) => instance.name === one))
      if (missing.length > 0)
        throw new Fault(
          "NotFound",
          `There is no instance ${missing.join(", ")}.`,
          "Call list_instances for the names that exist.",
        )
      return seen
    }
    try {
      if (!offered(tool))
        throw new Fault(
          "Forbidden",
          `${name} is not offered here.`,
          "Whoever runs `blackbox5 serve` started it with --read-only or --toolsets.",
        )
      const input = tool.input.safeParse(readInput(tool.input, raw))
      if (!input.success) throw new Fault("Invalid", explain(input.error), `Correct the named fields of ${name}.`)
      const wanted = tool.targets?.(input.data)
      on = tool.subject?.(input.data) ?? (wanted && "names" in wanted ? wanted.names : [])
      const targets = wanted ? await find(wanted) : []
      if (targets.length > 0) on = targets.map((target) => target.name)
      for (const target of [undefined, ...targets]) {
        const verdict = may(who, tool.verb, target)
        if (verdict !== true) throw new Fault("Forbidden", verdict.message, "Ask with message_instances to @operators.")
      }
      const output = await tool.handler({ ...ports, ...call, who, targets, visible }, input.data)
      return presented(tool.output.parse(output), nonce(), tool.reveals)
    } catch (error) {
      fault = asFault(error)
      throw fault
    } finally {
      if (!tool.hints.readOnlyHint) await audit(who, name, on, fault)
    }
  }
