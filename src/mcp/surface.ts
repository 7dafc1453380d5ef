import { readInput } from "../core/decode.ts"
import { asFault } from "../core/faults.ts"
import type { Invoke } from "../core/invoke.ts"
import type { Call, TextRow, Tool } from "../core/tool.ts"
import { clean, cut } from "../core/view.ts"
import { completeArgument } from "./completion.ts"
import { isShown, type ListedTool, listedTool } from "./listed-tools.ts"
import { promptList, renderPrompt, takesArgument } from "./prompts.ts"
import { invalidParams, Refusal, renderFault } from "./refusal.ts"
import { createResources, type Resources, resourceTemplates } from "./resources.ts"
import { type ResourceWatch, watchResources } from "./watch.ts"

/**
 * Everything that an MCP client of one caller can see and do, independent of the protocol's
 * version: server.ts and modern.ts translate it for their era.
 */
export interface Surface {
  readonly tools: readonly ListedTool[]
  /** @throws Refusal for an unknown tool. Any other failure is a result. */
  call(name: string, input: Record<string, unknown>, call: Call): Promise<Answer>
  /**
   * What a person must confirm before this call; undefined when nothing, or when the caller is not
   * a person. @throws Refusal as `call` does.
   */
  question(name: string, input: Record<string, unknown>): string | undefined
  readonly resources: Resources
  readonly resourceTemplates: typeof resourceTemplates
  readonly prompts: typeof promptList
  /** @throws Refusal */
  prompt(
    name: string,
    given: Record<string, string>,
    signal: AbortSignal,
  ): Promise<{ description: string; messages: PromptMessage[] }>
  /** @throws Refusal for an unknown prompt, template or argument. */
  complete(
    of: CompletionOf,
    argument: { name: string; value: string },
    signal: AbortSignal,
  ): Promise<ArgumentCompletion>
  readonly watch: ResourceWatch
}
export interface Answer {
  [key: string]: unknown
  structuredContent?: Record<string, unknown>
  content: { type: "text"; text: string }[]
  isError?: true
}
interface PromptMessage {
  role: "user"
  content:
    | { type: "text"; text: string }
    | { type: "resource"; resource: { uri: string; mimeType: string; text: string } }
}
export type CompletionOf = { readonly prompt: string } | { readonly uriTemplate: string }
export interface ArgumentCompletion {
  [key: string]: unknown
  values: string[]
  total: number
  hasMore: boolean
}
export interface SurfaceParts {
  /** Those of the toolset `admin` are not shown. */
  readonly tools: readonly Tool[]
  /** Bound to the caller whose conversation this is. */
  readonly invoke: Invoke
  /** True when a person is at the other end: only a person can confirm. */
  readonly person: boolean
  /** Shared by all conversations of one caller, if there are several. */
  readonly watch?: ResourceWatch
}

/** The protocol's limit. */
const completionsMax = 100

/** Rows as lines that can be read without a fixed-width font. */
const linesOf = (rows: readonly TextRow[]): string =>
  rows
    .map((row) =>
      Object.entries(row)
        .filter(([, value]) => value !== "")
        .map(([name, value]) => `${name}: ${value}`)
        .join(", "),
    )
    .join("\n")

/** Cached for each list of tools: printing schemas takes milliseconds, for every conversation. */
const printed = new WeakMap<readonly Tool[], readonly ListedTool[]>()
function listTools(tools: readonly Tool[]): readonly ListedTool[] {
  const known = printed.get(tools)
  if (known) return known
  const list = tools.filter(isShown).map(listedTool)
  printed.set(tools, list)
  return list
}

/** An error as a model reads it, which gets only the text. */
export const failed = (error: unknown): Answer => ({
  isError: true,
  content: [{ type: "text", text: renderFault(asFault(error)) }],
})

export function createSurface({ tools: all, invoke, person, watch }: SurfaceParts): Surface {
  const toolOf = (name: string): Tool => {
    const tool = all.find((one) => one.name === name && isShown(one))
    if (!tool) throw new Refusal(invalidParams, `Unknown tool: ${cut(name, 80)}`)
    return tool
  }
  const resources = createResources(invoke)
  let own: ResourceWatch | undefined
  return {
    get tools() {
      return listTools(all)
    },
    async call(name, input, call) {
      const tool = toolOf(name)
      try {
        const output = await invoke(tool.name, input, call)
        const { text, rows = [] } = tool.show(output)
        return {
          structuredContent: output,
          content: [{ type: "text", text: rows.length === 0 ? text : `${text}\n${linesOf(rows)}` }],
        }
      } catch (error) {
        return failed(error)
      }
    },
    question(name, input) {
      const tool = toolOf(name)
      if (!person || !tool.confirm) return undefined
      const parsed = tool.input.safeParse(readInput(tool.input, input))
      // An invalid call fails anyway, so nobody is asked.
      const question = parsed.success ? tool.confirm(parsed.data) : undefined
      return question === undefined ? undefined : clean(question)
    },
    resources,
    resourceTemplates,
    prompts: promptList,
    async prompt(name, given, signal) {
      const { description, text, uri } = renderPrompt(name, given)
      const { contents } = await resources.read(uri, signal)
      return {
        description,
        messages: [
          { role: "user", content: { type: "text", text } },
          ...contents.map(
            (resource): PromptMessage => ({
              role: "user",
              content: { type: "resource", resource },
            }),
          ),
        ],
      }
    },
    async complete(of, { name, value }, signal) {
      const known =
        "prompt" in of
          ? takesArgument(of.prompt, name)
          : resourceTemplates.some(({ uriTemplate }) => uriTemplate === of.uriTemplate) &&
            name === "name"
      if (!known)
        throw new Refusal(invalidParams, `Unknown argument ${JSON.stringify(cut(name, 80))}.`)
      const found = await completeArgument({ invoke, resources, signal }, name, value)
      return {
        values: found.names.slice(0, completionsMax),
        total: found.total,
        hasMore: found.total > completionsMax,
      }
    },
    get watch() {
      own ??= watch ?? watchResources(invoke)
      return own
    },
  }
}
