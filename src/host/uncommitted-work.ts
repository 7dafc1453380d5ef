import { copyFileSync, mkdtempSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { counted } from "../core/view.ts"
import type { TrustedFilters } from "../core/workspace.ts"
import { type Git, gitIn, listBytesMax, must } from "./git.ts"
import { type FileChange, statusOf } from "./tree-work.ts"

/** What of a work tree is not committed. */

/** Files of a tree that differ from its commit. */
export async function changesLoss(
  path: string,
  gitDirectory: string,
  trusted: TrustedFilters,
): Promise<string[]> {
  const git = await gitIn(path, trusted)
  const top = must(await git(["rev-parse", "--show-toplevel"]), `Finding the top of ${path}`)
  if (top !== path && statSync(top).ino !== statSync(path).ino)
    return ["its git directory names another work tree"]
  const { changes } = await statusOf(git, path)
  const all = [...changes, ...(await hiddenChanges(git, path, gitDirectory))]
  return all.length === 0 ? [] : [`it holds work that is not committed (${listed(all)})`]
}

/** Changes that the index was told not to show: `--assume-unchanged`, `--skip-worktree`. */
async function hiddenChanges(git: Git, path: string, gitDirectory: string): Promise<FileChange[]> {
  const files = await git(["ls-files", "-v", "-z"], { bytesMax: listBytesMax, ms: 60_000 })
  must(files, `Listing the files of ${path}`)
  const flagged = files.stdout
    .split("\0")
    .flatMap((line) => (/^[a-zS] /.test(line) ? [line.slice(2)] : []))
  if (flagged.length === 0) return []
  const directory = mkdtempSync(join(tmpdir(), "blackbox5-index-"))
  try {
    const indexFile = join(directory, "index")
    copyFileSync(join(gitDirectory, "index"), indexFile)
    const options = { indexFile, input: `${flagged.join("\0")}\0`, ms: 60_000 }
    for (const flag of ["--no-assume-unchanged", "--no-skip-worktree"])
      must(
        await git(["update-index", flag, "-z", "--stdin"], options),
        `Reading the index of ${path}`,
      )
    const { changes } = await statusOf(git, path, indexFile)
    // What a sparse checkout leaves out is not deleted.
    return changes.filter(({ missing }) => !missing)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Agents choose these names and models read them: nothing that reads like a sentence. */
export const plain = (name: string): string =>
  /^[\p{L}\p{N}._/@+-]{1,80}$/u.test(name) ? name : "with an unusual name"
function listed(changes: readonly FileChange[]): string {
  const names = [...new Set(changes.map(({ path }) => path))]
  const shown = names.slice(0, 3).filter((name) => plain(name) === name)
  const more = names.length - shown.length
  if (shown.length === 0) return counted(more, "file")
  return `${shown.join(", ")}${more > 0 ? ` and ${more} more` : ""}`
}
