import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs"
import { basename, join } from "node:path"
import { z } from "zod"
import { uidSchema } from "../../core/instance.ts"
import { isDirectory } from "../../host/find-code-root.ts"
import { replaceFile } from "../../host/replace-file.ts"
import { gitDirectoryOf } from "../../host/repository.ts"
import { instancesIn } from "../../run/runs.ts"
import { begunSchema, treePath, treeSchema } from "../../run/tree-file.ts"

/**
 * Records of the trees that outlive their instances: `<state>/kept-trees/<tree>.json`. They are not
 * in the trees themselves, which agents can write.
 */

/** An instance's name and a part of its uid. */
const treeName = /^[A-Za-z0-9][-\w]{0,99}$/

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
export type KeptRecord = z.output<typeof recordSchema>

export interface KeptRecords {
  read(name: string): KeptRecord | undefined
  write(record: KeptRecord): void
  forget(name: string): void
  /** By the tree's name; also of trees that lie there without a record. */
  all(): ReadonlyMap<string, KeptRecord>
}

export function openKeptRecords(stateDirectory: string): KeptRecords {
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
  return {
    read,
    write(record) {
      try {
        mkdirSync(directory, { recursive: true, mode: 0o700 })
        replaceFile(fileOf(basename(record.tree.path)), JSON.stringify(record))
      } catch {
        // On a full disk a removal goes on: the tree is found without its record.
      }
    },
    forget: (name) => rmSync(fileOf(name), { force: true }),
    all() {
      const records = new Map<string, KeptRecord>()
      for (const file of namesIn(directory)) {
        const name = basename(file, ".json")
        const record = name === file ? undefined : read(name)
        if (record) records.set(name, record)
      }
      // Agents can write to this directory: a name of another form is not one of our trees.
      const others = namesIn(trees).filter((name) => !records.has(name) && treeName.test(name))
      const living = others.length === 0 ? [] : instancesIn(stateDirectory)
      for (const name of others) {
        const path = join(trees, name)
        const isAtWork = living.some(
          (uid) => path === treePath(stateDirectory, instanceName(name), uid),
        )
        if (isDirectory(path) && !isAtWork) records.set(name, unrecorded(path))
      }
      return records
    },
  }
}

/**
 * A tree that belongs to no instance and has no record: an older version left it, or the disk was
 * full.
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

const namesIn = (directory: string): readonly string[] =>
  existsSync(directory) ? readdirSync(directory) : []
/** A tree's name ends with a part of the uid. */
const instanceName = (tree: string): string => tree.slice(0, Math.max(0, tree.lastIndexOf("-")))
