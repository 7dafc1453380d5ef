import { execFileSync } from "node:child_process"
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import {
  array,
  assert,
  asyncProperty,
  constant,
  constantFrom,
  oneof,
  option,
  record,
  string,
} from "fast-check"
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import { pinnedConfig, pinPersonalConfig } from "../../src/host/git-config.ts"
import { useConfig } from "../../src/host/git-environment.ts"
import { sshConfig } from "../../src/host/ssh-config.ts"
import { git } from "../e2e/code-root.ts"

/**
 * The copy of the person's git configuration, with the real git: it says what the original said,
 * and nothing that is written later.
 */

let directory: string
let home: string
let state: string
const put = (path: string, text: string): string => {
  const file = join(home, path)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
  return file
}
/** What git finds in a directory with that configuration as the person's. */
const listed = (config: string | undefined, where = directory): string[] =>
  execFileSync("git", ["config", "--includes", "--list", "-z"], {
    cwd: where,
    env: {
      PATH: process.env.PATH,
      HOME: home,
      GIT_CONFIG_NOSYSTEM: "1",
      ...(config !== undefined && { GIT_CONFIG_GLOBAL: config }),
    },
    encoding: "utf8",
  })
    .split("\0")
    .filter((entry) => !/^include(?:if)?\./.test(entry) && !entry.includes(`${state}/`))
const copy = async (): Promise<string> => {
  // As serve does: what git itself refuses does not keep the copy from being made.
  useConfig(pinnedConfig(state))
  await pinPersonalConfig(state)
  return pinnedConfig(state)
}

beforeEach(() => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), "bb5-git é config-")))
  home = join(directory, "home")
  state = join(directory, "state")
  for (const path of [home, state]) mkdirSync(path)
  vi.stubEnv("HOME", home)
  vi.stubEnv("XDG_CONFIG_HOME", undefined)
  vi.stubEnv("GIT_CONFIG_GLOBAL", undefined)
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(directory, { recursive: true })
})

describe("the copy of the person's git configuration", () => {
  it("says what both files said, in git's order, with what they include", async () => {
    put(".config/git/config", "[user]\n\tname = First\n\temail = a@example.invalid\n")
    put(
      ".gitconfig",
      "[user]\n\tname = Second # over the first\n[include]\n\tpath = more/one\n\tpath = ~/two\n\tpath = not-there\n",
    )
    put(
      "more/one",
      '[alias]\n\tx = "!echo \\"a;b\\" \\\\ # c"\n[include]\n\tpath = deeper\n[core]\n\tbare\n',
    )
    put("more/deeper", '[http "https://a.example/ü"]\n\tproxy = p\n')
    put("two", "[user]\n\tsigningKey = k\n")
    const before = listed(undefined)
    const pinned = await copy()
    expect(listed(pinned)).toEqual(before)
    // Whoever writes them now changes nothing, nor who makes what was missing.
    for (const path of [
      ".config/git/config",
      ".gitconfig",
      "more/one",
      "more/deeper",
      "two",
      "not-there",
      "more/not-there",
    ])
      put(path, "[core]\n\tsshCommand = planted\n")
    expect(listed(pinned)).toEqual(before)
  })

  it("has the lists of ignored files and attributes as they were, those that were not there too", async () => {
    const tree = join(directory, "tree")
    mkdirSync(tree)
    git(tree, "init", "-q")
    const ignored = (config: string, ...paths: string[]): string =>
      execFileSync("git", ["status", "--short", "--ignored"], {
        cwd: tree,
        env: { PATH: process.env.PATH, HOME: home, GIT_CONFIG_GLOBAL: config },
        encoding: "utf8",
      })
        .split("\n")
        .filter((line) => paths.some((path) => line.endsWith(path)))
        .join()
    for (const name of ["a", "b"]) writeFileSync(join(tree, name), "")
    const none = await copy()
    put(".config/git/ignore", "a\n")
    expect(ignored(none, "a", "b")).toBe("?? a,?? b")
    const usual = await copy()
    put(".config/git/ignore", "*\n")
    expect(ignored(usual, "a", "b")).toBe("?? b,!! a")
    put(".gitconfig", "[core]\n\texcludesFile = ~/mine\n\tattributesFile = ~/not-there\n")
    put("mine", "b\n")
    const named = await copy()
    put("mine", "*\n")
    expect(ignored(named, "a", "b")).toBe("?? a,!! b")
  })

  it("keeps conditions, those relative to a file too", async () => {
    const work = join(home, "dot files/job")
    mkdirSync(work, { recursive: true })
    git(work, "init", "-q")
    put(
      "dot files/config",
      '[includeIf "gitdir:./job/"]\n\tpath = at-work\n[includeIf "gitdir:~/play/"]\n\tpath = at-play\n',
    )
    symlinkSync(join(home, "dot files/config"), join(home, ".gitconfig"))
    put("at-work", "[user]\n\temail = work@example.invalid\n")
    put("at-play", "[user]\n\temail = play@example.invalid\n")
    expect(listed(undefined, work)).toContain("user.email\nwork@example.invalid")
    const pinned = await copy()
    expect(listed(pinned, work)).toEqual(listed(undefined, work))
    expect(listed(pinned)).toEqual(listed(undefined))
  })

  it("says the same for all that a configuration may hold", async () => {
    const text = string({
      unit: oneof(
        constantFrom("\n", "\t", '"', "\\", "#", ";", " ", "=", "[", "]", "\r", "é", "😀"),
        constantFrom(..."abc"),
      ),
    })
    const entry = record({
      subsection: option(text.map((one) => one.replace(/\n/g, ""))),
      key: constantFrom("name", "x-y", "Case"),
      value: oneof(text, constant("")),
    })
    await assert(
      asyncProperty(array(entry, { maxLength: 6 }), async (entries) => {
        rmSync(join(home, ".gitconfig"), { force: true })
        for (const { subsection, key, value } of entries)
          execFileSync("git", [
            "config",
            "--file",
            join(home, ".gitconfig"),
            "--add",
            `some${subsection === null ? "" : `.${subsection}`}.${key}`,
            value,
          ])
        expect(listed(await copy())).toEqual(entries.length === 0 ? [""] : listed(undefined))
      }),
      { numRuns: 20 },
    )
  })

  it("is empty where there is none, and stays as it was where git cannot read the new one; no copy of before is left", async () => {
    expect(listed(await copy())).toEqual([""])
    put(".gitconfig", "[include]\n\tpath = one\n")
    put("one", "[user]\n\tname = Ann\n")
    expect(listed(await copy())).toContain("user.name\nAnn")
    put("one", "[user]\n\tname = Bea\n")
    await copy()
    // The file, what it includes, ssh's, and the empty one that stands for what is not there.
    expect(readdirSync(dirname(pinnedConfig(state)))).toHaveLength(4)
    put(".gitconfig", "[broken\n")
    const failed = { untrusted: expect.stringMatching(/Reading .*\.gitconfig failed: git says/) }
    await expect(pinPersonalConfig(state)).rejects.toMatchObject(failed)
    expect(listed(pinnedConfig(state))).toContain("user.name\nBea")
  })

  it("ends where files include one another", async () => {
    put(".gitconfig", "[user]\n\tname = Ann\n[include]\n\tpath = .gitconfig\n\tpath = .gitconfig\n")
    await expect(copy()).rejects.toThrow(
      "includes more than 100 files, or files that include one another",
    )
  })
})

describe("the copy of the person's ssh configuration", () => {
  it("includes copies of what is there, and the system's at its end; nothing that somebody makes later", () => {
    put(
      ".ssh/config",
      'Host a\n  User ann\n  Include "one two" parts/* not-there ~/else\nINCLUDE=/etc/ssh/ssh_config.d/*.conf\nHost b\n  Include gone/*\n',
    )
    put(".ssh/one two", "Port 1\n")
    put(".ssh/parts/b", "Port 3\nInclude deeper\n")
    put(".ssh/parts/a", "Port 2\n")
    put(".ssh/deeper", "ProxyCommand nc\n")
    put("else", "Port 4\n")
    const kept: string[] = []
    const text = sshConfig((one) => `/kept/${kept.push(one)}`, home)
    expect(kept).toEqual([
      "Port 1\n",
      "Port 2\n",
      "ProxyCommand nc\n",
      'Port 3\nInclude "/kept/3"\n',
      "Port 4\n",
    ])
    expect(text).toBe(
      'Host a\n  User ann\n  Include "/kept/1" "/kept/2" "/kept/4" "/kept/5"\nINCLUDE="/etc/ssh/ssh_config.d/*.conf"\nHost b\n\n\nMatch all\nInclude /etc/ssh/ssh_config\n',
    )
  })

  it("is the system's alone where the person has none, and ends where files include one another", () => {
    expect(sshConfig(() => "", home)).toBe("\nMatch all\nInclude /etc/ssh/ssh_config\n")
    put(".ssh/config", "Include config config\n")
    let files = 0
    sshConfig(() => `/kept/${++files}`, home)
    expect(files).toBeLessThan(300)
  })

  it("is what our git gives ssh, unless the person says otherwise", async () => {
    const first = await copy()
    const command = (config: string): string =>
      execFileSync("git", ["config", "core.sshCommand"], {
        cwd: directory,
        env: { PATH: process.env.PATH, GIT_CONFIG_GLOBAL: config },
        encoding: "utf8",
      }).trim()
    expect(command(first)).toMatch(/^ssh -F '.*\/state\/git\/copy-\w+'$/)
    put(".gitconfig", "[core]\n\tsshCommand = mine\n")
    expect(command(await copy())).toBe("mine")
  })
})
