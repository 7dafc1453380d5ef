import { oneLine } from "./view.ts"

const charactersMax = 120

/** What a tool of claude's is doing, in the words of its most telling argument. */
export function summaryOf(input: unknown): string {
  if (typeof input !== "object" || input === null) return ""
  const fields = new Map<string, unknown>(Object.entries(input))
  const telling = [
    "description",
    "command",
    "file_path",
    "path",
    "pattern",
    "url",
    "query",
    "prompt",
  ]
    .map((name) => fields.get(name))
    .find((value) => typeof value === "string")
  return oneLine(String(telling ?? JSON.stringify(input)), charactersMax)
}
