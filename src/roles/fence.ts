import { insideFence } from "../core/view.ts"

/** People read the same texts as models, without the fences around what agents wrote. */

export const unfenced = (text: string): string => insideFence(text) ?? text

/** A tool's result without any fences. */
export function withoutFences(result: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const walk = (node: unknown): unknown => {
    if (typeof node === "string") return unfenced(node)
    if (Array.isArray(node)) return node.map(walk)
    if (node === null || typeof node !== "object") return node
    return Object.fromEntries(Object.entries(node).map(([name, inner]) => [name, walk(inner)]))
  }
  return Object.fromEntries(Object.entries(result).map(([name, inner]) => [name, walk(inner)]))
}
