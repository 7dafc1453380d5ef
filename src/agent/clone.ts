import { randomBytes } from "node:crypto"
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { refSchema } from "../core/workspace.ts"
import { type GitResult, must, runGit } from "../host/git.ts"
import { lock } from "./lock.ts"

/**
 * The bare clones that work trees are made from. Agents push from there, and write their
 * configuration.
 */

/**
 * What a clone or a fetch may take; a larger repository is cloned into the code root by a person.
 */
const networkMs = 600_000

/**
 * What git, and an agent's own git push and git commit, write there. Anything else could make our
 * fetch run or contact something.
 */
const ordinary =
  /^(?:core\.(?:repositoryformatversion|bare|filemode|symlinks|ignorecase|precomposeunicode|logallrefupdates)|extensions\.objectformat|remote\.origin\.(?:url|fetch)|branch\..*|user\.(?:name|email))$/s

/** Clones what is not there, and fetches what is. @throws Unavailable, with what to do. */
export async function fetchClone(
  path: string,
  url: string,
  lockDirectory: string,
  signal: AbortSignal,
): Promise<void> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const release = await lock(
    lockDirectory,
    `${basename(dirname(path))}.${basename(path)}`,
    signal,
    2 * networkMs,
  )
  try {
    if (existsSync(path)) await fetchInto(path, url, signal)
    else {
      // Renamed when it is whole: half a clone is none.
      const draft = `${path}.${randomBytes(4).toString("hex")}`
      try {
        const next = "Look whether there is room on the disk."
        must(
          await runGit(
            dirname(path),
            ["init", "--quiet", "--bare", "--initial-branch=blackbox5", draft],
            { signal },
          ),
          "git init",
          next,
        )
        await fetchInto(draft, url, signal)
        renameSync(draft, path)
      } finally {
        rmSync(draft, { recursive: true, force: true })
      }
    }
  } finally {
    release()
  }
}

async function fetchInto(path: string, url: string, signal: AbortSignal): Promise<void> {
  const file = join(path, "config")
  const config = (...args: readonly string[]): Promise<GitResult> =>
    runGit(dirname(path), ["config", "--file", file, ...args], { signal })
  const listed = must(
    await config("--no-includes", "--name-only", "--list", "-z"),
    "Reading its configuration",
    `Mend ${file}.`,
  )
  for (const key of new Set(listed.split("\0")))
    if (key !== "" && !ordinary.test(key))
      must(await config("--unset-all", key), `Removing ${key}`, `Remove it from ${file}.`)
  must(await config("--replace-all", "remote.origin.url", url), "git config", `Mend ${file}.`)
  must(
    await config("--replace-all", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
    "git config",
    `Mend ${file}.`,
  )

  const next =
    "Look whether the repository exists, and whether `git ls-remote` of it works on this machine without asking (log in once, e.g. gh auth login); then resume the instance."
  const fetch = [
    "fetch",
    "--quiet",
    "--prune",
    "--tags",
    "--no-recurse-submodules",
    "--upload-pack=git-upload-pack",
  ]
  const what = `Fetching ${url}`
  const network = { network: true, ms: networkMs, signal }
  must(
    await runGit(path, [...fetch, "--", url, "+refs/heads/*:refs/remotes/origin/*"], network),
    what,
    next,
  )
  const heads = must(
    await runGit(path, ["ls-remote", "--symref", "--", url, "HEAD"], network),
    what,
    next,
  )
  const [, branch] = /^ref: refs\/heads\/(\S+)\tHEAD$/m.exec(heads) ?? []
  if (branch !== undefined && refSchema.safeParse(branch).success)
    await runGit(
      path,
      ["symbolic-ref", "refs/remotes/origin/HEAD", `refs/remotes/origin/${branch}`],
      { signal },
    )
}
