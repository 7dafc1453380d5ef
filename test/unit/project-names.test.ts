import { mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as fc from "fast-check"
import { afterAll, describe, expect, it } from "vitest"
import { directoryIn, projectsIn } from "../../src/adapters/local/code-root.ts"
import { directoryNamed, projectNames } from "../../src/adapters/local/project-names.ts"
import { projectSchema } from "../../src/core/instance.ts"

/**
 * Anything that a file system takes as one name, in UTF-8: much of it alike, so that derived names
 * collide.
 */
const directoryName = fc
  .oneof(
    fc.string({ unit: "grapheme", minLength: 1, maxLength: 100 }),
    fc.string({ unit: fc.constantFrom(..."aAé -._:#%?'\"ß中"), minLength: 1, maxLength: 4 }),
    fc.constantFrom(
      "Mein Projekt",
      "mein-projekt",
      "Mein  Projekt",
      "MEIN PROJEKT",
      "project",
      "日本語",
      "한국어",
    ),
  )
  .filter((name) => !/[/\0]/.test(name) && name !== "." && name !== "..")
const directoryNames = fc.uniqueArray(directoryName, { maxLength: 12 })

describe("the name of a project", () => {
  it.each([
    ["shop", "shop"],
    ["My_Shop.v2", "My_Shop.v2"],
    ["Mein Projekt", "mein-projekt"],
    ["Über: 100 % #1?", "uber-100-1"],
    ["日本語", "project"],
    ["x".repeat(100), "x".repeat(63)],
    [" -.-a-.- ", "a"],
  ])("of %j is %j", (directory, name) => {
    expect([...projectNames([directory])]).toEqual([[name, directory]])
  })

  it("is not given to a directory that git cannot carry", () => {
    expect([...projectNames(["a\nb", "bad\ufffdbytes"])]).toEqual([])
  })

  it("is valid, belongs to one directory, leads back to it, and does not depend on the order", () => {
    fc.assert(
      fc.property(directoryNames, (directories) => {
        const names = projectNames(directories)
        for (const [name, directory] of names) {
          expect(projectSchema.safeParse(name).success).toBe(true)
          expect(directories).toContain(directory)
          expect(directoryNamed(directories, name)).toBe(directory)
        }
        expect(new Set(names.values()).size).toBe(names.size)
        expect(new Map(projectNames(directories.toReversed()))).toEqual(names)
        const named = directories.filter(
          // biome-ignore lint/suspicious/noControlCharactersInRegex: those are left out
          (directory) => !/[\u0000-\u001f\u007f\ufffd]/.test(directory),
        )
        expect([...names.values()].toSorted()).toEqual(named.toSorted())
      }),
      { numRuns: 500 },
    )
  })

  it("with a hash stays good when the directory that it was told from is gone", () => {
    const both = ["Mein Projekt", "mein projekt"]
    const name =
      [...projectNames(both)].find(([, directory]) => directory === "Mein Projekt")?.[0] ?? ""
    expect(name).toMatch(/^mein-projekt-[0-9a-f]{8}$/)
    expect([...projectNames(["Mein Projekt"]).keys()]).toEqual(["mein-projekt"])
    expect(directoryNamed(["Mein Projekt"], name)).toBe("Mein Projekt")
  })

  it("is what a code root lists and finds", () => {
    const root = mkdtempSync(join(tmpdir(), "bb5-names-"))
    afterAll(() => rmSync(root, { recursive: true }))
    for (const name of ["shop", "Mein Projekt", ".hidden"])
      mkdirSync(join(root, "5-project-memory", name), { recursive: true })
    expect(projectsIn(root)).toEqual(["mein-projekt", "shop"])
    expect(directoryIn(root, "mein-projekt")).toBe(join(root, "5-project-memory/Mein Projekt"))
    const repository = join(root, "Ein Repo")
    mkdirSync(join(repository, ".git"), { recursive: true })
    expect(projectsIn(repository)).toEqual(["ein-repo"])
    expect(directoryIn(repository, "ein-repo")).toBe(repository)
  })
})
