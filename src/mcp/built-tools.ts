import { readFileSync } from "node:fs"
import { type Offer, offers, type Toolset } from "../core/tool.ts"
import type { ListedTool } from "./listed-tools.ts"

/**
 * The list of tools, which the build writes beside the program. Showing it loads neither the tools
 * nor zod, which takes longer than starting node.
 */
export const builtToolsFile = "tool-list.json"

interface BuiltTool {
  readonly toolset: Toolset
  readonly listed: ListedTool
}

/** The tools that are offered; undefined without a built list, when the tools must be loaded. */
export function readBuiltTools(offer: Offer): readonly ListedTool[] | undefined {
  try {
    const built: readonly BuiltTool[] = JSON.parse(
      readFileSync(new URL(builtToolsFile, import.meta.url), "utf8"),
    ) // written by builtTools, of the same build
    return built
      .filter(({ toolset, listed }) => offers(offer)({ toolset, hints: listed.annotations }))
      .map(({ listed }) => listed)
  } catch {
    return undefined
  }
}
