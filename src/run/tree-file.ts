import { join } from "node:path"
import { z } from "zod"
import { trustedFiltersSchema } from "../core/workspace.ts"

/**
 * The tree that an instance works in, decided once and kept for its life; its supervisor makes it.
 */
export const treeSchema = z.strictObject({
  /** No other instance works in it, and it goes with the instance. Otherwise it is the person's. */
  own: z.boolean(),
  /** Top of a tree of its own; the project's directory where it is shared. */
  path: z.string(),
  /** The project's directory in it. */
  project: z.string(),
  /**
   * Top of the tree that the repository was found by, or the bare clone; absent where there is no
   * git.
   */
  repository: z.string().optional(),
  /** What all trees of the repository have in common; tells repositories apart. */
  common: z.string().optional(),
  /** The code root in a tree of its own, where that is what the repository holds. */
  root: z.string().optional(),
  /** Wanted; one that exists already gets a number. */
  branch: z.string().optional(),
  /** Where it begins: a ref, else HEAD of this tree, else the remote's HEAD. */
  ref: z.string().optional(),
  from: z.string().optional(),
  /** Of what is cloned. */
  url: z.string().optional(),
  /** The loop script needs a directory `.autonomous` in the project. */
  autonomous: z.boolean(),
  /**
   * Filters of the repository's own configuration that a checkout may run: what the policy said
   * when the run began.
   */
  trustedFilters: trustedFiltersSchema.optional(),
})
export type TreeFile = z.output<typeof treeSchema>
/**
 * Where the work began, and on which branch: written by the supervisor, before it makes the tree
 * and after.
 */
export const begunSchema = z.strictObject({
  base: z.string().optional(),
  branch: z.string().optional(),
  made: z.boolean(),
})
export type BegunFile = z.output<typeof begunSchema>

/** Where the tree of an instance is, if it has one of its own. */
export const treePath = (stateDirectory: string, name: string, uid: string): string =>
  join(stateDirectory, "trees", `${name}-${uid.slice(0, 8)}`)
