import { insideFence } from "../core/view.ts"

/** People read what models read, without the fences around what agents wrote. */

export const unfenced = (text: string): string => insideFence(text) ?? text

/** A tool's result with every fence in it taken off. */
export function withoutFences(result: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const walk = (node: unknown): unknown => {
    if (typeof node === "string") return unfenced(node)
    if (Array.isArray(node)) return node.map(walk)
    if (node === null || typeof node !== "object") return node
    return Object.fromEntries(Object.entries(node).map(([name, inner]) => [name, walk(inner)]))
  }
  return Object.fromEntries(Object.entries(result).map(([name, inner]) => [name, walk(inner)]))
}
