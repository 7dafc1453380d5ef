import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs"
import { basename, join } from "node:path"
import { z } from "zod"
import { Fault } from "../../core/faults.ts"
import { type Uid, uidSchema } from "../../core/instance.ts"
import type { KeptTree, KeptTrees } from "../../core/ports.ts"
import { cut } from "../../core/view.ts"
import type { TrustedFilters } from "../../core/workspace.ts"
import { runGit } from "../../host/git.ts"
import { replaceFile } from "../../host/replace-file.ts"
import { entriesOf, gitDirectoryOf } from "../../host/repository.ts"
import { lossOf } from "../../host/tree-loss.ts"
import { scanTree } from "../../host/tree-scan.ts"
import { instancesIn } from "../../run/runs.ts"
import {
  type BegunFile,
  begunSchema,
  type TreeFile,
  treePath,
  treeSchema,
} from "../../run/tree-file.ts"
import { type KeptWork, type RemovalOptions, removeTree } from "./tree-removal.ts"

/**
 * Trees that outlive their instances. Their records are beside the trees, which agents see, and not
 * in them.
 */

/** Files that are looked at for the sizes of one list; what comes behind them has none. */
const sizedEntriesMax = 1_000_000
/** An instance's name and a part of its uid. */
const treeName = /^[A-Za-z0-9][-\w]{0,99}$/
/** An event holds 4000 characters. */
const wordsMax = 3000

const recordSchema = z.strictObject({
  instance: z.string(),
  uid: uidSchema,
  tree: treeSchema,
  begun: begunSchema.optional(),
  /** Only the branch is left. */
  branchAlone: z.boolean(),
  why: z.string(),
  atMs: z.int(),
})
type KeptRecord = z.output<typeof recordSchema>

export interface ReleasedTrees extends KeptTrees {
  /**
   * Takes the tree of a removed instance away, unless that could lose work. What was kept, in
   * words.
   */
  release(of: {
    name: string
    uid: Uid
    tree: TreeFile
    begun: BegunFile | undefined
  }): Promise<string | undefined>
  /** The same, of a release that was cut off after it. */
  releasedBefore(of: { name: string; uid: Uid }): string | undefined
}
export interface KeptTreesOptions {
  readonly stateDirectory: string
  trusted(): TrustedFilters
  nowMs(): number
}

export function createKeptTrees({
  stateDirectory,
  trusted,
  nowMs,
}: KeptTreesOptions): ReleasedTrees {
  const directory = join(stateDirectory, "kept-trees")
  const trees = join(stateDirectory, "trees")
  const fileOf = (name: string): string => join(directory, `${name}.json`)
  const read = (name: string): KeptRecord | undefined => {
    try {
      return recordSchema.safeParse(JSON.parse(readFileSync(fileOf(name), "utf8"))).data
    } catch {
      return undefined
    }
  }
  const forget = (name: string): void => rmSync(fileOf(name), { force: true })
  const write = (record: KeptRecord): void => {
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 })
      replaceFile(fileOf(basename(record.tree.path)), JSON.stringify(record))
    } catch {
      // On a full disk a removal goes on: the tree itself is found without a record.
    }
  }
  const all = (): ReadonlyMap<string, KeptRecord> => {
    const names = namesIn(directory).flatMap((file) =>
      file.endsWith(".json") ? [file.slice(0, -".json".length)] : [],
    )
    const found = new Map(names.flatMap((name) => asEntry(name, read(name))))
    // Agents see this directory, too: what has another name is none of ours.
    const others = namesIn(trees).filter((name) => !found.has(name) && treeName.test(name))
    const living = others.length === 0 ? [] : instancesIn(stateDirectory)
    for (const name of others) {
      const path = join(trees, name)
      if (
        isDirectory(path) &&
        !living.some((uid) => path === treePath(stateDirectory, nameIn(name), uid))
      )
        found.set(name, unrecorded(path))
    }
    return found
  }

  return {
    async release({ name, uid, tree, begun }) {
      const kept = await removeTree(tree, begun, { trusted: trusted() })
      if (kept === undefined) return undefined
      write({
        instance: name,
        uid,
        tree,
        begun,
        branchAlone: !kept.tree,
        why: kept.why,
        atMs: nowMs(),
      })
      return keptWords(tree, kept)
    },
    releasedBefore({ name, uid }) {
      const record = read(basename(treePath(stateDirectory, name, uid)))
      return (
        record &&
        keptWords(record.tree, {
          tree: !record.branchAlone,
          branch: record.begun?.branch,
          why: record.why,
        })
      )
    },
    async list(signal) {
      const rows: KeptTree[] = []
      let entriesLeft = sizedEntriesMax
      for (const [name, record] of all()) {
        signal.throwIfAborted()
        if (await isGone(record)) forget(name)
        else {
          const row = await rowOf(name, record, trusted())
          rows.push(row)
          if (entriesLeft <= 0 || row.path === undefined || !existsSync(row.path)) continue
          const { bytes, entries } = await scanTree(row.path, {
            sized: true,
            signal,
            entriesMax: entriesLeft,
          })
          entriesLeft -= entries
          if (entriesLeft > 0) rows[rows.length - 1] = { ...row, bytes }
        }
      }
      return rows.toSorted((a, b) => a.sinceMs - b.sinceMs)
    },
    async remove(name, { discard }) {
      const record = all().get(name)
      if (!record)
        throw new Fault(
          "NotFound",
          `No tree ${name} was kept.`,
          "`blackbox5 trees` lists those that were.",
        )
      const remove = (more: Pick<RemovalOptions, "discard">): Promise<KeptWork | undefined> =>
        removeTree(record.tree, record.begun, { trusted: trusted(), merged: true, ...more })
      const first = await remove({})
      const left =
        first && discard ? await remove({ discard: first.tree ? "tree" : "branch" }) : first
      if (left) write({ ...record, branchAlone: !left.tree, why: left.why })
      else forget(name)
      return {
        ...(left && { kept: keptWords(record.tree, left) }),
        ...(first && discard && (!left || first.tree !== left.tree) && { lost: first.why }),
      }
    },
  }
}

/** As a person reads it in an answer and in the timeline. */
function keptWords({ path, repository }: TreeFile, { tree, branch, why }: KeptWork): string {
  const words = tree
    ? `its tree ${path}${branch === undefined ? "" : ` and branch ${branch}`}: ${why}`
    : `branch ${branch} in ${repository}, ${why}`
  return cut(words, wordsMax)
}

/**
 * What is in the directory of trees without an instance and without a record: of an older version,
 * or of a full disk.
 */
function unrecorded(path: string): KeptRecord {
  const git = gitDirectoryIn(path)
  const head =
    git && existsSync(join(git.own, "HEAD")) ? readFileSync(join(git.own, "HEAD"), "utf8") : ""
  const [, branch] = /^ref: refs\/heads\/(.+)$/m.exec(head) ?? []
  return {
    instance: "",
    uid: uidSchema.parse("unknown"),
    tree: {
      own: true,
      path,
      project: path,
      autonomous: false,
      ...(git && { repository: git.common, common: git.common }),
    },
    ...(branch !== undefined && { begun: { branch, made: true } }),
    branchAlone: false,
    why: "",
    atMs: Math.round(statSync(path).mtimeMs),
  }
}
function gitDirectoryIn(path: string): ReturnType<typeof gitDirectoryOf> {
  try {
    return gitDirectoryOf(path)
  } catch {
    return undefined // it cannot be read: nothing is known about it but that it is there
  }
}

/** A person took it away by hand. */
async function isGone({ tree, begun, branchAlone }: KeptRecord): Promise<boolean> {
  const { path, common } = tree
  if (!branchAlone)
    return (
      !existsSync(path) &&
      (common === undefined || !existsSync(common) || entriesOf(path, common).length === 0)
    )
  if (common === undefined || !existsSync(common)) return false // on a disk that is not there now
  const { code } = await runGit(common, [
    "show-ref",
    "--verify",
    "--quiet",
    `refs/heads/${begun?.branch}`,
  ])
  return code === 1
}

async function rowOf(
  name: string,
  { instance, tree, begun, branchAlone, why, atMs }: KeptRecord,
  trusted: TrustedFilters,
): Promise<KeptTree> {
  const { path, repository, common } = tree
  const found =
    why === "" && common !== undefined ? (await lossOf(path, common, trusted)).why.join("; ") : why
  return {
    name,
    ...(instance !== "" && { instance }),
    ...(!branchAlone && { path }),
    ...(begun?.branch !== undefined && { branch: begun.branch }),
    ...(repository !== undefined && { repository }),
    why: found || "it was left by an earlier version, and holds no work",
    sinceMs: atMs,
  }
}
const namesIn = (directory: string): readonly string[] =>
  existsSync(directory) ? readdirSync(directory) : []
/** The instance's name in a tree's, whose last part is of its uid. */
const nameIn = (tree: string): string => tree.slice(0, Math.max(0, tree.lastIndexOf("-")))
const isDirectory = (path: string): boolean =>
  statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
const asEntry = (
  name: string,
  record: KeptRecord | undefined,
): (readonly [string, KeptRecord])[] => (record ? [[name, record]] : [])
