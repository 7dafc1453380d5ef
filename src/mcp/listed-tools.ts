import type { Tool } from "../core/tool.ts"
import { type ObjectSchema, schemaOf } from "./schema.ts"

/** A tool as `tools/list` shows it. */
export interface ListedTool {
  name: string
  title: string
  description: string
  inputSchema: ObjectSchema
  outputSchema: ObjectSchema
  annotations: { title: string } & Tool["hints"]
}

/** Tools of the toolset `admin` are hidden: no model administers the fleet. */
export const isShown = ({ toolset }: Pick<Tool, "toolset">): boolean => toolset !== "admin"

export const listedTool = ({
  name,
  title,
  description,
  input,
  output,
  hints,
}: Tool): ListedTool => ({
  name,
  title,
  description,
  inputSchema: schemaOf(input, "input"),
  outputSchema: schemaOf(output, "output"),
  annotations: { title, ...hints },
})

/** The list that the build writes for `readBuiltTools`. */
export const builtTools = (tools: readonly Tool[]): string =>
  JSON.stringify(
    tools.filter(isShown).map((tool) => ({ toolset: tool.toolset, listed: listedTool(tool) })),
  )
