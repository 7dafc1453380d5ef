import { z } from "zod"
import { asFault, Fault, faultText } from "../../src/core/faults.ts"
import { isoOf } from "../../src/core/moment.ts"
import type { KeptTree } from "../../src/core/ports.ts"
import { defineTool, type ToolContext } from "../../src/core/tool.ts"
import { counted, withSaid } from "../../src/core/view.ts"

const shownMax = 200
const namesMax = 100

interface Removal {
  readonly name: string
  readonly removed: boolean
  readonly why: string
  /** What was kept or lost: names of files and branches, which agents choose. */
  readonly untrusted?: string
}

async function removeOne(
  { keptTrees }: ToolContext,
  name: string,
  force: boolean,
): Promise<Removal> {
  try {
    const { kept, lost } = await keptTrees.remove(name, { discard: force })
    const gone = lost === undefined ? "" : `Lost: ${lost}.`
    if (kept === undefined)
      return gone === ""
        ? { name, removed: true, why: "It had no work in it." }
        : { name, removed: true, why: "Its work is lost.", untrusted: gone }
    return {
      name,
      removed: false,
      why: force
        ? "Part of it is still kept."
        : "It is still kept. To discard its work, give its name with --force.",
      untrusted: `${gone} Still kept: ${kept}.`.trim(),
    }
  } catch (error) {
    const fault = asFault(error)
    return { name, removed: false, why: `${fault.message} ${fault.next}`, ...faultText(fault) }
  }
}

export default defineTool({
  name: "trees",
  title: "List and remove kept work trees",
  description:
    "Work trees and branches of removed instances that were kept because their work exists nowhere else: why, how large, since when. With names or merged it removes those whose work is reachable elsewhere by now.",
  toolset: "admin",
  route: "POST /v1/trees",
  verb: "administer",
  input: z.strictObject({
    names: z.array(z.string().min(1).max(200)).max(namesMax).default([]).describe("remove these"),
    merged: z
      .boolean()
      .default(false)
      .describe("remove all whose work is reachable elsewhere by now"),
    force: z
      .boolean()
      .default(false)
      .describe("with names: also discard work that exists nowhere else"),
  }),
  output: z.strictObject({
    trees: z.array(
      z.strictObject({
        name: z.string(),
        instance: z.string().optional(),
        bytes: z.int().optional(),
        since: z.string(),
        untrusted: z.strictObject({
          path: z.string().optional(),
          branch: z.string().optional(),
          repository: z.string().optional(),
          why: z.string(),
        }),
      }),
    ),
    removals: z.array(
      z.strictObject({
        name: z.string(),
        removed: z.boolean(),
        why: z.string(),
        untrusted: z.string().optional(),
      }),
    ),
    next: z.string(),
  }),
  hints: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  subject: ({ names }) => names,
  async handler(ctx, { names, merged, force }) {
    const { keptTrees, signal } = ctx
    if (force && names.length === 0)
      throw new Fault(
        "Invalid",
        "force discards work, so it needs names.",
        "Give the names of the trees to remove.",
      )
    const wanted = merged ? (await keptTrees.list(signal)).map(({ name }) => name) : []
    const removals: Removal[] = []
    for (const name of new Set([...names, ...wanted])) {
      if (signal.aborted) break
      removals.push(await removeOne(ctx, name, force && names.includes(name)))
      ctx.progress(removals.length, `${counted(removals.length, "tree")} checked`)
    }
    const trees = await keptTrees.list(signal)
    return {
      trees: trees.slice(0, shownMax).map(shownTree),
      removals,
      next: nextStep(trees.length),
    }
  },
  show: ({ trees, removals, next }) => ({
    text: [
      ...removals.map(
        ({ name, removed, why, untrusted }) =>
          `${name}: ${removed ? "removed" : "kept"}. ${withSaid(why, untrusted)}`,
      ),
      next,
    ].join("\n"),
    rows: trees.map(
      ({
        name,
        instance = "",
        bytes,
        since,
        untrusted: { branch = "", repository = "", path = "", why },
      }) => {
        const size = bytes === undefined ? "" : sizeOf(bytes)
        return { name, instance, branch, size, since, where: path || repository, why }
      },
    ),
  }),
})

const shownTree = ({ name, instance, bytes, sinceMs, ...untrusted }: KeptTree) => ({
  name,
  instance,
  bytes,
  since: isoOf(sinceMs),
  untrusted,
})
function nextStep(count: number): string {
  if (count === 0) return "Nothing is kept."
  const more = count > shownMax ? ` The first ${shownMax} of ${count} are listed.` : ""
  return `Look into a tree, or merge its branch; then \`blackbox5 trees --merged\` removes it.${more}`
}
function sizeOf(bytes: number): string {
  if (bytes < 1_048_576) return `${Math.ceil(bytes / 1024)} KiB`
  return bytes < 1_073_741_824
    ? `${Math.round(bytes / 1_048_576)} MiB`
    : `${(bytes / 1_073_741_824).toFixed(1)} GiB`
}
