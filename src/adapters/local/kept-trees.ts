import { existsSync } from "node:fs"
import { basename } from "node:path"
import { Fault } from "../../core/faults.ts"
import type { Uid } from "../../core/instance.ts"
import type { KeptTree, KeptTrees } from "../../core/ports.ts"
import { cut } from "../../core/view.ts"
import type { TrustedFilters } from "../../core/workspace.ts"
import { runGit } from "../../host/git.ts"
import { entriesOf } from "../../host/repository.ts"
import { lossOf } from "../../host/tree-loss.ts"
import { scanTree } from "../../host/tree-scan.ts"
import { type BegunFile, type TreeFile, treePath } from "../../run/tree-file.ts"
import { type KeptRecord, type KeptRecords, openKeptRecords } from "./kept-records.ts"
import { type KeptWork, type RemovalOptions, removeTree } from "./tree-removal.ts"

/** Trees that outlive their instances, because work in them is nowhere else. */

/** Files that are counted for the sizes in one list; trees after that have no size. */
const sizedEntriesMax = 1_000_000
/** An event holds 4000 characters. */
const keptCharactersMax = 3000

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
  const records = openKeptRecords(stateDirectory)
  return {
    async release({ name, uid, tree, begun }) {
      const kept = await removeTree(tree, begun, { trusted: trusted() })
      if (kept === undefined) return undefined
      records.write({
        instance: name,
        uid,
        tree,
        begun,
        branchAlone: !kept.tree,
        why: kept.why,
        atMs: nowMs(),
      })
      return describeKept(tree, kept)
    },
    releasedBefore({ name, uid }) {
      const record = records.read(basename(treePath(stateDirectory, name, uid)))
      if (!record) return undefined
      const { tree, begun, branchAlone, why } = record
      return describeKept(tree, { tree: !branchAlone, branch: begun?.branch, why })
    },
    list: (signal) => listKept(records, trusted(), signal),
    async remove(name, { discard }) {
      const record = records.all().get(name)
      if (!record)
        throw new Fault(
          "NotFound",
          `No tree ${name} was kept.`,
          "`blackbox5 trees` lists the trees that were kept.",
        )
      const remove = (more: Pick<RemovalOptions, "discard">): Promise<KeptWork | undefined> =>
        removeTree(record.tree, record.begun, { trusted: trusted(), merged: true, ...more })
      const first = await remove({})
      const left =
        first && discard ? await remove({ discard: first.tree ? "tree" : "branch" }) : first
      if (left) records.write({ ...record, branchAlone: !left.tree, why: left.why })
      else records.forget(name)
      return {
        ...(left && { kept: describeKept(record.tree, left) }),
        ...(first && discard && (!left || first.tree !== left.tree) && { lost: first.why }),
      }
    },
  }
}

async function listKept(
  records: KeptRecords,
  trusted: TrustedFilters,
  signal: AbortSignal,
): Promise<readonly KeptTree[]> {
  const rows: KeptTree[] = []
  let entriesLeft = sizedEntriesMax
  for (const [name, record] of records.all()) {
    signal.throwIfAborted()
    if (await isGone(record)) {
      records.forget(name)
      continue
    }
    const row = await rowOf(name, record, trusted)
    let bytes: number | undefined
    if (entriesLeft > 0 && row.path !== undefined && existsSync(row.path)) {
      const options = { sized: true, signal, entriesMax: entriesLeft }
      const scan = await scanTree(row.path, options)
      entriesLeft -= scan.entries
      if (entriesLeft > 0) bytes = scan.bytes
    }
    rows.push({ ...row, ...(bytes !== undefined && { bytes }) })
  }
  return rows.toSorted((a, b) => a.sinceMs - b.sinceMs)
}

/** As a person reads it in an answer and in the timeline. */
function describeKept({ path, repository }: TreeFile, { tree, branch, why }: KeptWork): string {
  const text = tree
    ? `its tree ${path}${branch === undefined ? "" : ` and branch ${branch}`}: ${why}`
    : `branch ${branch} in ${repository}, ${why}`
  return cut(text, keptCharactersMax)
}

/** True when a person removed it by hand. */
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
    why: found || "an earlier version left it; it holds no work",
    sinceMs: atMs,
  }
}
