import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import {
  compareVersions,
  endServe,
  newerEntry,
  successorEnvironment,
} from "../../src/client/serve-file.ts"
import { readConfig } from "../../src/settings/config.ts"

describe("versions", () => {
  it("are ordered as semver orders them", () => {
    const ordered = [
      "0.0.9",
      "0.1.0",
      "0.9.3",
      "0.10.0",
      "1.0.0-alpha",
      "1.0.0-alpha.1",
      "1.0.0-alpha.beta",
      "1.0.0-beta",
      "1.0.0-beta.2",
      "1.0.0-beta.11",
      "1.0.0-rc.1",
      "1.0.0",
      "2.0.0",
    ]
    for (const [i, a] of ordered.entries())
      for (const [j, b] of ordered.entries())
        expect([a, b, Math.sign(compareVersions(a, b))]).toEqual([a, b, Math.sign(i - j)])
    expect(compareVersions("1.0.0+build.1", "1.0.0+build.2")).toBe(0)
    for (const none of ["", "1", "latest", "v1.0.0"]) expect(compareVersions(none, "1.0.0")).toBe(0)
  })
})

describe("the serve that is written down", () => {
  const directory = mkdtempSync(join(tmpdir(), "bb5-file-"))
  afterAll(() => rmSync(directory, { recursive: true }))
  const config = readConfig({}, { BLACKBOX5_STATE: directory })
  const write = (file: object): void =>
    writeFileSync(join(directory, "serve.json"), JSON.stringify(file))
  const url = "http://127.0.0.1:7505"

  it("is not ended when the process of its number is another one, or when another version answers", async () => {
    // This process: a signal would end the test.
    write({ pid: process.pid, url, version: "0.0.1" })
    expect(await endServe(config, "0.0.1")).toBeUndefined()
    expect(await endServe(config, "0.0.2")).toBeUndefined()
    writeFileSync(join(directory, "serve.json"), "no JSON")
    expect(await endServe(config, "0.0.1")).toBeUndefined()
  })

  it("hands its settings on, a port only when it is not the usual one", () => {
    expect(successorEnvironment({ pid: 2, url, version: "0.1.0" })).toEqual({})
    expect(
      successorEnvironment({
        pid: 2,
        url: "http://127.0.0.1:9000",
        version: "0.1.0",
        codeRoot: "/code",
        configDirectory: "/config",
      }),
    ).toEqual({ BLACKBOX5_CODE_ROOT: "/code", BLACKBOX5_CONFIG: "/config", BLACKBOX5_PORT: "9000" })
  })

  it("is started again only where it is newer, and still there", () => {
    const entry = [process.execPath, join(directory, "serve.json")]
    write({ pid: 2, url, version: "99.0.0", entry })
    expect(newerEntry(config)).toEqual(entry)
    write({ pid: 2, url, version: "0.0.1", entry })
    expect(newerEntry(config)).toBeUndefined()
    write({ pid: 2, url, version: "99.0.0", entry: [process.execPath, join(directory, "gone")] })
    expect(newerEntry(config)).toBeUndefined()
  })
})
