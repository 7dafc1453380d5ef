import type { Context } from "hono"
import { decode, inputFields } from "../core/decode.ts"
import { Fault } from "../core/faults.ts"
import type { Tool } from "../core/tool.ts"
import { readBody } from "./body.ts"
import { pathFieldsOf } from "./openapi.ts"

/**
 * REST from the tools: each has one route, whose input stands in the path, and the query or body.
 */

export interface Route {
  readonly tool: Tool
  readonly method: string
  /** The input fields in the path, or undefined when it is another path. */
  match(path: string): Record<string, string> | undefined
  /** @throws Invalid, TooLarge for what is no input of the route. */
  input(c: Context, inPath: Record<string, string>): Promise<Record<string, unknown>>
}

/** @throws Invalid for what is not UTF-8, escaped. */
export function unescapePart(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new Fault(
      "Invalid",
      "The path has an invalid percent escape.",
      "Escape it as UTF-8, such as %C3%BC.",
    )
  }
}

function createRoute(tool: Tool): Route {
  const [method = "", path = ""] = tool.route.split(" ")
  const names = pathFieldsOf(path)
  const literals = path
    .split(/\{\w+\}/)
    .map((literal) => literal.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))
  const pattern = new RegExp(`^${literals.join("([^/]+)")}$`)
  const fields = inputFields(tool.input)
  return {
    tool,
    method,
    match(requested) {
      const values = pattern.exec(requested)?.slice(1)
      return (
        values &&
        Object.fromEntries(names.map((name, index) => [name, unescapePart(values[index] ?? "")]))
      )
    },
    async input(c, inPath) {
      const input =
        method === "GET"
          ? decode(fields, new Map(Object.entries(c.req.queries())))
          : await readBody(c.req.raw)
      const twice = Object.keys(inPath).find((name) => Object.hasOwn(input, name))
      if (twice === undefined) return { ...input, ...inPath }
      throw new Fault(
        "Invalid",
        `${twice} is already in the path.`,
        `Leave ${twice} out of the body and the query.`,
      )
    },
  }
}

/** A literal path comes before one with fields. */
export const createRoutes = (tools: readonly Tool[]): readonly Route[] =>
  tools
    .map(createRoute)
    .sort((a, b) => pathFieldsOf(a.tool.route).length - pathFieldsOf(b.tool.route).length)

/** Some clients escape the colon of `instances:pause`. */
export const routePath = (c: Context): string => new URL(c.req.url).pathname.replace(/%3A/gi, ":")
