import { z } from "zod"
import { summaryOf } from "../../core/activity.ts"
import { oneLine } from "../../core/view.ts"

/**
 * Claude Code's session file: one JSON record a line, of which these parts are read. Unknown kinds
 * are left out.
 */

const partSchema = z.looseObject({
  type: z.string(),
  text: z.string().optional(),
  name: z.string().optional(),
  input: z.unknown().optional(),
  content: z.unknown().optional(),
  is_error: z.boolean().optional(),
})
const contentSchema = z.union([z.string(), z.array(z.unknown())])
const recordSchema = z.looseObject({
  type: z.string(),
  timestamp: z.string(),
  isSidechain: z.boolean().optional(),
  message: z.looseObject({ content: contentSchema }).optional(),
  content: z.unknown().optional(),
  attachment: z.looseObject({ type: z.string(), content: z.unknown().optional() }).optional(),
})

type SessionRecord = z.output<typeof recordSchema>

const textCharactersMax = 4000
const resultCharactersMax = 500

/** The text of what Claude Code keeps as a string, or as a list of strings and text parts. */
function textOf(content: unknown): string {
  if (typeof content === "string") return content
  if (!Array.isArray(content)) return ""
  return content
    .map((part) =>
      typeof part === "string" ? part : (partSchema.safeParse(part).data?.text ?? ""),
    )
    .join(" ")
}

const labelled = (label: string, text: string): string | undefined =>
  text === "" ? undefined : `${label}: ${text}`

function lineOf(who: string, part: unknown): string | undefined {
  const parsed = partSchema.safeParse(part).data
  switch (parsed?.type) {
    case "text":
      return labelled(who, oneLine(parsed.text ?? "", textCharactersMax))
    case "tool_use":
      return `tool ${oneLine(parsed.name ?? "?", 120)}: ${summaryOf(parsed.input)}`
    case "tool_result":
      return labelled(
        parsed.is_error ? "error" : "result",
        oneLine(textOf(parsed.content), resultCharactersMax),
      )
    default:
      return undefined
  }
}

function linesIn({
  type,
  message,
  content,
  attachment,
}: SessionRecord): readonly (string | undefined)[] {
  switch (type) {
    case "user":
      return partLines("prompt", message?.content ?? [])
    case "assistant":
      return partLines("claude", message?.content ?? [])
    case "system":
      return partLines("system", textOf(content))
    case "attachment":
      return attachment?.type.startsWith("hook_")
        ? partLines("hook", textOf(attachment.content))
        : []
    default:
      return []
  }
}
const partLines = (
  who: string,
  content: string | readonly unknown[],
): readonly (string | undefined)[] =>
  (typeof content === "string" ? [{ type: "text", text: content }] : content).map((part) =>
    lineOf(who, part),
  )

/**
 * A record as lines that people read: who, and the text, or the tool and what it does. None for one
 * that is broken or says nothing.
 */
export function transcriptLines(
  text: string,
): readonly { readonly atMs: number; readonly text: string }[] {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return []
  }
  const record = recordSchema.safeParse(json).data
  const atMs = Date.parse(record?.timestamp ?? "")
  if (!record || Number.isNaN(atMs)) return []
  return linesIn(record)
    .filter((line) => line !== undefined)
    .map((line) => ({ atMs, text: record.isSidechain ? `sub-agent ${line}` : `${line}` }))
}
