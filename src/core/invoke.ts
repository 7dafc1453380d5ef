import { type AuditedCall, describeTargets, flagsOf, namesIn } from "./audit.ts"
import { readInput } from "./decode.ts"
import { asFault, Fault } from "./faults.ts"
import { renderFindings } from "./findings.ts"
import { instanceList } from "./fleet-index.ts"
import type { Instance } from "./instance.ts"
import type { Instances } from "./ports.ts"
import type { may as mayFunction, Principal, Verb } from "./principal.ts"
import { withoutWordsOf, wordsWith } from "./secrets.ts"
import type { Targets } from "./selector.ts"
import { asCallerMeans, checkOneCheckout, matches } from "./selector.ts"
import type { Call, Tool, ToolContext } from "./tool.ts"
import { cut, presented } from "./view.ts"

/**
 * One operation, called by name. An Invoke belongs to one caller, so no face can forget or forge
 * who calls. A face that could not read the input gives the Fault in its place.
 */
export type Invoke = (tool: string, input: unknown, call: Call) => Promise<Record<string, unknown>>

const whoCanHelp: Readonly<Record<Principal["kind"], string>> = {
  human: "Ask somebody who has that role.",
  instance: 'Ask a person: message_instances {"to":["@operators"],"text":"…"}.',
}

export interface InvokeOptions {
  readonly tools: ReadonlyMap<string, Tool>
  readonly ports: Omit<ToolContext, keyof Call | "who" | "targets" | "visible" | "store"> & {
    readonly store: Instances
  }
  readonly may: typeof mayFunction
  /** False for what this control plane was told not to do for anybody. */
  offered(tool: Tool): boolean
  /** A new random word for each result: what fences untrusted text. */
  nonce(): string
  /** How words begin that are secrets here, besides those that are known everywhere. */
  secretPrefixes(): readonly string[]
  audit(call: AuditedCall): Promise<void>
}

/** A refusal may quote what it refuses. */
function withoutSecrets(fault: Fault, prefixes: readonly string[]): Fault {
  const secretWords = wordsWith(prefixes)
  const [message, next] = [fault.message, fault.next].map((text) =>
    withoutWordsOf(text, secretWords),
  )
  if (message === fault.message && next === fault.next) return fault
  return new Fault(fault.code, message ?? "", next ?? "", fault.cause)
}

/**
 * Validates, finds the targets, authorizes each, runs the handler, cleans what it gives, audits.
 * @throws Fault, and nothing else.
 */
export const invokeHere =
  ({ tools, ports, may, offered, nonce, secretPrefixes, audit }: InvokeOptions) =>
  (who: Principal): Invoke =>
  async (name, raw, call) => {
    const tool = tools.get(name)
    if (!tool)
      throw new Fault(
        "NotFound",
        `There is no tool ${JSON.stringify(cut(name, 80))}.`,
        "List the tools to see their names.",
      )
    let record: AuditedCall = { who, tool: name, on: namesIn(raw) }
    /**
     * Those to whom the caller may do that. A person's rights are the same for every instance, so
     * a large fleet is not gone through for them.
     */
    const allowedTargets = (verb: Verb, all: readonly Instance[]): readonly Instance[] =>
      who.kind === "human" && may(who, verb) === true
        ? all
        : all.filter((one) => may(who, verb, one) === true)
    // A stranger is not found, never forbidden.
    const visible = async (): Promise<readonly Instance[]> =>
      allowedTargets("outline", instanceList(ports.store.replica.snapshot()))
    const find = async (wanted: Targets): Promise<readonly Instance[]> => {
      // A description means those of them that the caller may do it to; a name means that one.
      if (!("names" in wanted)) {
        const all = await visible()
        const callers =
          who.kind === "instance"
            ? all.find(({ uid }) => uid === who.uid)?.spec.codeRoot
            : call.codeRoot
        const meant = await asCallerMeans(wanted, callers, ports.projects)
        const described = Object.keys(meant).length === 0 ? all : all.filter(matches(meant))
        const found = allowedTargets(tool.verb, described)
        if (!tool.hints.readOnlyHint) checkOneCheckout(meant, found)
        return found
      }
      const names = [...new Set(wanted.names)]
      const found = names
        .map((one) => ports.store.replica.get(one))
        .filter((one) => one !== undefined)
      const known = found.filter((one) => may(who, "outline", one) === true)
      const missing = names.filter((one) => !known.some((instance) => instance.name === one))
      if (missing.length > 0)
        throw new Fault(
          "NotFound",
          `There is no instance ${missing.join(", ")}.`,
          "list_instances {} shows those that exist.",
        )
      return known
    }
    try {
      if (!offered(tool))
        throw new Fault(
          "Forbidden",
          `${name} is not available here.`,
          "`blackbox5 serve` was started with --read-only or --toolsets: ask whoever runs it.",
        )
      // A face that could not read what it was sent gives its Fault instead: such a call counts,
      // and is audited, as any other.
      if (raw instanceof Fault) throw raw
      const input = tool.input.safeParse(readInput(tool.input, raw), { reportInput: true })
      if (!input.success)
        throw new Fault(
          "Invalid",
          `${renderFindings(input.error)}.`,
          "Correct that and call again.",
        )
      const wanted = tool.targets?.(input.data)
      const described = tool.subject?.(input.data) ?? (wanted ? describeTargets(wanted) : [])
      record = { who, tool: name, on: described, flags: flagsOf(input.data) }
      const targets = wanted ? await find(wanted) : []
      if (targets.length > 0) record = { ...record, on: targets.map((target) => target.name) }
      for (const target of [undefined, ...targets]) {
        const verdict = may(who, tool.verb, target)
        if (verdict !== true) throw new Fault("Forbidden", verdict.message, whoCanHelp[who.kind])
      }
      const output = await tool.handler({ ...ports, ...call, who, targets, visible }, input.data)
      const checked = tool.output.parse(output)
      record = { ...record, ...tool.outcome?.(checked) }
      return presented(checked, nonce(), tool.reveals, secretPrefixes())
    } catch (error) {
      const fault = withoutSecrets(asFault(error), secretPrefixes())
      record = { ...record, fault }
      throw fault
    } finally {
      if (!tool.hints.readOnlyHint) await audit(record)
    }
  }
