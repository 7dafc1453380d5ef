import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Fault } from "../core/faults.ts"
import { oneLine } from "../core/view.ts"
import { type ArmedGit, listBytesMax, must } from "./git.ts"

/**
 * Nothing, when a checkout of that commit runs no filter that is not trusted. Otherwise files would
 * be written that the agent's git, which obeys the repository, would encode twice. @throws Invalid,
 * with the line for the policy; Unavailable.
 */
export async function checkFilters(
  { git, untrusted }: ArmedGit,
  common: string,
  commit: string,
): Promise<void> {
  if (untrusted.size === 0) return
  const directory = mkdtempSync(join(tmpdir(), "blackbox5-index-"))
  try {
    const options = { indexFile: join(directory, "index"), bytesMax: listBytesMax, ms: 60_000 }
    const what = `Reading the files of ${commit}`
    must(await git(["read-tree", commit], options), what)
    const files = await git(["ls-tree", "-r", "-z", "--name-only", commit], options)
    must(files, what)
    // In an empty tree of its own: attributes are those of the commit, not those that lie about in
    // somebody's.
    const empty = ["-C", directory, "--git-dir", common, "--work-tree", directory]
    const asked = [...empty, "check-attr", "--cached", "--stdin", "-z", "filter"]
    const attributes = await git(asked, { ...options, input: files.stdout })
    must(attributes, what)
    // Path, attribute, value; path, attribute, value ...
    const name = attributes.stdout
      .split("\0")
      .find((value, at) => at % 3 === 2 && untrusted.has(value))
    const commands = untrusted.get(name ?? "")
    if (name === undefined || commands === undefined) return
    throw new Fault(
      "Invalid",
      `Files of the repository pass through a filter that only its own configuration defines. Agents can write that file, so Blackbox5 does not run the filter's commands, and without them a work tree of its own would hold wrong files.`,
      "Read the commands; if they are yours, add them to policy.yaml under trustedFilters, or define the filter in your own configuration (git config --global; for LFS: git lfs install).",
      undefined,
      `Of ${oneLine(common, 300)}, as a line for policy.yaml: trustedFilters: ${oneLine(JSON.stringify({ [name]: commands }), 600)}`,
    )
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
