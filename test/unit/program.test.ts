import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { afterEach, expect, it } from "vitest"
import { keepProgram } from "../../src/client/program.ts"

const directories: string[] = []
afterEach(() => {
  for (const path of directories.splice(0)) rmSync(path, { recursive: true, force: true })
})

it.each<[string, (copy: string) => void]>([
  ["a file of the same length", (copy) => writeFileSync(join(copy, "part.js"), "fals")],
  ["a file that is missing", (copy) => rmSync(join(copy, "part.js"))],
  ["a file too many", (copy) => writeFileSync(join(copy, "package.json"), "{}")],
])("a copy of the program is made again when it has %s", (_, spoil) => {
  const path = mkdtempSync(join(tmpdir(), "bb5-program-"))
  directories.push(path)
  const original = join(path, "dist")
  mkdirSync(original)
  writeFileSync(join(original, "main.js"), "main")
  writeFileSync(join(original, "part.js"), "true")
  const kept = keepProgram(original, join(path, "kept"))
  expect(keepProgram(original, join(path, "kept"))).toBe(kept)
  const before = join(path, "before")
  cpSync(dirname(kept), before, { recursive: true })
  spoil(dirname(kept))
  expect(keepProgram(original, join(path, "kept"))).toBe(kept)
  for (const name of readdirSync(before))
    expect(readFileSync(join(dirname(kept), name), "utf8")).toBe(
      readFileSync(join(before, name), "utf8"),
    )
  expect(readdirSync(dirname(kept))).toEqual(readdirSync(before))
})
