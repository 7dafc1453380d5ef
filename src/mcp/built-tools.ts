import { readFileSync } from "node:fs"
import { type Offer, offers, type Toolset } from "../core/tool.ts"
import type { ListedTool } from "./listed-tools.ts"

/**
 * The list of tools that the build wrote beside the program: to show it, neither tools nor zod are
 * loaded, which takes longer than node itself.
 */
export const builtToolsFile = "tool-list.json"

interface BuiltTool {
  readonly toolset: Toolset
  readonly listed: ListedTool
}

/**
 * What `tools/list` shows under these bounds; undefined where there is no list: then the tools
 * themselves are asked.
 */
export function readBuiltTools(offer: Offer): readonly ListedTool[] | undefined {
  try {
    const built: readonly BuiltTool[] = JSON.parse(
      readFileSync(new URL(builtToolsFile, import.meta.url), "utf8"),
    ) // written by builtTools, for this very program
    return built
      .filter(({ toolset, listed }) => offers(offer)({ toolset, hints: listed.annotations }))
      .map(({ listed }) => listed)
  } catch {
    return undefined
  }
}
