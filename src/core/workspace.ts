import { z } from "zod"
import { Fault } from "./faults.ts"

/** In which work tree an instance works: what may be asked for, and what follows from it. */

/** `auto`: the tree that the person sees, or one of its own where others work; see ownTree. */
export const workspaceSchema = z.enum(["auto", "shared", "worktree"])
/** `owner/name`, as GitHub spells them; never a path, an option or a URL. */
export const repositorySchema = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9-]{0,38}\/(?!\.{1,2}$)(?!.*\.git$)[A-Za-z0-9._][A-Za-z0-9._-]{0,99}$/,
    "must be owner/name",
  )

/** What git check-ref-format(1) refuses, and what git could take for an option or an expression. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: refusing them is what this is for
const noRef = /^[-/.]|^@$|[\u0000-\u0020\u007f~^:?*[\\]|\.\.|\/[/.]|\.lock(?:\/|$)|@\{|[/.]$/
/** A branch, a tag or a commit. */
export const refSchema = z
  .string()
  .min(1)
  .max(200)
  .refine((ref) => !noRef.test(ref), "must be a branch, a tag or a commit")

/** The commands of a git filter driver: gitattributes(5). */
export const filterCommands = ["clean", "smudge", "process"] as const
const commandSchema = z.string().min(1).max(1000).optional()
const filterCommandsSchema = z.strictObject({
  clean: commandSchema,
  smudge: commandSchema,
  process: commandSchema,
})
export type FilterCommands = z.output<typeof filterCommandsSchema>
/**
 * Filters that a repository's own configuration may define and a checkout may run, by name. The
 * commands are part of the trust: an agent could write others under the same name.
 */
export const trustedFiltersSchema = z.record(z.string().min(1).max(100), filterCommandsSchema)
export type TrustedFilters = z.output<typeof trustedFiltersSchema>

interface TreeRequest {
  readonly workspace: z.output<typeof workspaceSchema>
  readonly repository?: string | undefined
  readonly ref?: string | undefined
  readonly lineage: readonly unknown[]
}

function whyNotShared(
  repository: string | undefined,
  ref: string | undefined,
  isChild: boolean,
): string | undefined {
  if (repository !== undefined) return "A repository is cloned, so there is no tree to share."
  if (ref !== undefined)
    return "A shared tree stays at the commit that the person has checked out: ref needs a tree of its own."
  return isChild ? "An agent's child works in a tree of its own." : undefined
}

/**
 * Whether an instance gets a tree of its own. `git`: the project is in a git repository; `taken`:
 * another instance works in that repository. A person's tree is never switched to another commit,
 * so who names a ref gets a tree of its own.
 * @throws Invalid for what contradicts itself or cannot be.
 */
export function ownTree(
  { workspace, repository, ref, lineage }: TreeRequest,
  { git, taken }: { git: boolean; taken: boolean },
): boolean {
  const child = lineage.length > 0
  const obstacle = workspace === "shared" ? whyNotShared(repository, ref, child && git) : undefined
  if (obstacle !== undefined)
    throw new Fault("Invalid", obstacle, 'Leave workspace out, or give "worktree".')
  if (repository !== undefined) return true
  if (git)
    return (
      workspace === "worktree" || (workspace === "auto" && (ref !== undefined || child || taken))
    )
  if (workspace === "worktree" || ref !== undefined)
    throw new Fault(
      "Invalid",
      "The project is not tracked by git, so it has only the one tree.",
      "Leave workspace and ref out, or run git init there and commit the project first.",
    )
  return false
}
