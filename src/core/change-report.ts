import type { ChangeReport } from "./bulk-change.ts"
import type { TextRow, ToolContext } from "./tool.ts"
import { counted, withSaid } from "./view.ts"

/** What pause, resume and stop say when they have changed what they could. */

/** What to do after the change; `otherwise` where it changed something. */
export const nextAfterChange = (
  changes: ChangeReport,
  otherwise: string,
  { limits }: Pick<ToolContext, "limits">,
): string => {
  const { disk } = limits()
  const next = nextStep(changes, otherwise)
  return disk && disk.held > 0 && changes.changed > 0 && !changes.dryRun
    ? `The disk is full, so this holds in memory only, until \`blackbox5 serve\` restarts: make room on it. ${next}`
    : next
}
function nextStep({ count, changed, dryRun, instances }: ChangeReport, otherwise: string): string {
  if (count === 0) return "No instance matches: list_instances {} shows those that exist."
  if (dryRun)
    return `Nothing was changed. Call it without dryRun and with "expect":${count} to do it.`
  if (changed === 0) return "Nothing had to be changed: why says how each instance is."
  return count > instances.length
    ? `${otherwise} The first ${instances.length} of ${count} are listed.`
    : otherwise
}

export const showChanges =
  (past: string) =>
  ({
    count,
    changed,
    dryRun,
    instances,
    next,
  }: ChangeReport & { next: string }): { text: string; rows: readonly TextRow[] } => ({
    text: `${changed} of ${counted(count, "instance")} ${dryRun ? "would be " : ""}${past}. ${next}`,
    rows: instances.map(({ name, phase, changed: isChanged, why, untrusted }) => ({
      name,
      phase,
      changed: isChanged ? "yes" : "no",
      why: withSaid(why, untrusted),
    })),
  })
