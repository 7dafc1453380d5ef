import { inputFields, readInput } from "../core/decode.ts"
import { Fault } from "../core/faults.ts"
import type { Tool } from "../core/tool.ts"

/** A tool's input as an HTTP request: the inverse of what serve decodes. */

const requestBytesMax = 1_048_576
/** node's servers refuse heads above 16 KiB. */
const pathBytesMax = 14_000

export interface ApiRequest {
  readonly method: string
  readonly path: string
  readonly body?: string
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The texts of a query from which core/decode.ts makes the same value again. */
function queryTexts(kind: string | undefined, value: unknown): readonly string[] {
  if (kind === "list" && Array.isArray(value)) {
    const plain =
      value.length > 0 && value.every((one) => typeof one === "string" && /^[^,[][^,]*$/.test(one))
    return plain ? value.map(String) : [JSON.stringify(value)]
  }
  // A text in a field of JSON needs its quotes, else `12` would come back as a number.
  const isPlainText = typeof value === "string" && kind !== "json" && kind !== "object"
  return [isPlainText ? value : JSON.stringify(value)]
}

/** A tool's input as its route takes it. @throws Invalid, TooLarge. */
export function requestFor(tool: Tool, input: unknown): ApiRequest {
  // A query has no null: what is not given must be left out of it before.
  const given = readInput(tool.input, input)
  if (!isObject(given))
    throw new Fault("Invalid", "The input is not an object.", `Give ${tool.name} an object.`)
  const [method = "", pattern = ""] = tool.route.split(" ")
  const rest = new Map(Object.entries(given).filter(([, value]) => value !== undefined))
  let path = pattern.replace(/\{(\w+)\}/g, (_, field: string) => {
    const value = rest.get(field)
    rest.delete(field)
    if (typeof value !== "string" || /^\.{0,2}$/.test(value))
      throw new Fault("Invalid", `${field} must be a name.`, `Correct ${field}, then call again.`)
    return encodeURIComponent(value)
  })
  if (method === "GET") {
    const kinds = new Map(inputFields(tool.input).map(({ name, kind }) => [name, kind]))
    const query = new URLSearchParams()
    for (const [name, value] of rest)
      for (const text of queryTexts(kinds.get(name), value)) query.append(name, text)
    if (query.size > 0) path += `?${query}`
  }
  const body = method === "GET" ? undefined : JSON.stringify(Object.fromEntries(rest))
  if (path.length > pathBytesMax || Buffer.byteLength(body ?? "") > requestBytesMax)
    throw new Fault("TooLarge", `The input of ${tool.name} is too large.`, "Send less in one call.")
  return body === undefined ? { method, path } : { method, path, body }
}
