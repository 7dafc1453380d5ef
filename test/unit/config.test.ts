import { mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { codeRootOf } from "../../src/host/find-code-root.ts"
import { lastingEnvironment, readConfig, serveEnvironment } from "../../src/settings/config.ts"

const directory = mkdtempSync(join(tmpdir(), "bb5-config-"))
afterAll(() => rmSync(directory, { recursive: true }))
const made = (path: string): string => {
  mkdirSync(join(directory, path), { recursive: true })
  return join(directory, path)
}

describe("the code root", () => {
  const project = made("client/5-project-memory/shop/src")
  const named = made("named")
  const nowhere = made("nowhere")
  const rootOf = (env: NodeJS.ProcessEnv, flag?: string) =>
    codeRootOf(readConfig({ codeRoot: flag }, env))

  it("is the flag's, else the environment's, else above the client's project, else above the current directory", () => {
    const all = { BLACKBOX5_CODE_ROOT: named, CLAUDE_PROJECT_DIR: project }
    expect(rootOf(all, nowhere)).toBe(nowhere)
    expect(rootOf(all)).toBe(named)
    expect(rootOf({ ...all, BLACKBOX5_CODE_ROOT: "" })).toBe(join(directory, "client"))
    // This test runs in a git repository.
    expect(rootOf({ CLAUDE_PROJECT_DIR: nowhere })).toBe(process.cwd())
    expect(rootOf({})).toBe(process.cwd())
  })

  it("is known to the serve that a client starts, and the client's project is not the agents'", () => {
    const env = {
      CLAUDE_PROJECT_DIR: project,
      CLAUDECODE: "1",
      BLACKBOX5_INSTANCE: "u/p",
      HOME: "/home/me",
    }
    expect(serveEnvironment(env)).toEqual({ CLAUDE_PROJECT_DIR: project, HOME: "/home/me" })
    expect(lastingEnvironment(serveEnvironment(env))).toEqual({ HOME: "/home/me" })
  })
})
