import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { mergeSettings, wayOut } from "../../src/agent/settings.ts"
import { temporary } from "./scratch.ts"

describe("settings", () => {
  const ours = {
    disableAllHooks: false,
    env: { TELEMETRY: "1" },
    hooks: { Stop: [{ hooks: ["ours"] }] },
    permissions: { allow: ["mcp__ours"] },
  }
  const merge = (args: readonly string[], files: Readonly<Record<string, unknown>> = {}) => {
    const directory = temporary()
    for (const [name, content] of Object.entries(files))
      writeFileSync(join(directory, name), JSON.stringify(content))
    const [flag, text = "", ...rest] = mergeSettings(
      args.map((arg) => arg.replace("@", `${directory}/`)),
      ours,
      { TELEMETRY: "0", OTHERWISE: "2" },
    )
    return { flag, merged: JSON.parse(text), rest }
  }

  it("stand alone where the caller has none, and its arguments stay", () => {
    expect(merge(["-p", "--model", "x"])).toEqual({
      flag: "--settings",
      merged: { ...ours, env: { TELEMETRY: "1", OTHERWISE: "2" } },
      rest: ["-p", "--model", "x"],
    })
  })

  it.each<[string, string[], Record<string, unknown>]>([
    [
      "as JSON",
      ["--settings", '{"env":{"A":"1","TELEMETRY":"0"},"disableAllHooks":true,"model":"m"}'],
      {},
    ],
    [
      "as JSON with =",
      ['--settings= {"env":{"A":"1","TELEMETRY":"0"},"disableAllHooks":true,"model":"m"}'],
      {},
    ],
    [
      "in a file",
      ["--settings", "@theirs"],
      { theirs: { env: { A: "1", TELEMETRY: "0" }, disableAllHooks: true, model: "m" } },
    ],
  ])("keep the caller's own, %s, but ours win", (_, args, files) => {
    const { merged, rest } = merge([...args, "-p"], files)
    expect(rest).toEqual(["-p"])
    expect(merged).toEqual({
      ...ours,
      env: { A: "1", TELEMETRY: "1", OTHERWISE: "2" },
      model: "m",
    })
  })

  it("run the caller's hooks after ours", () => {
    const { merged } = merge([
      "--settings",
      '{"hooks":{"Stop":[{"hooks":["theirs"]}],"Notification":[{"hooks":["n"]}]}}',
    ])
    expect(merged.hooks).toEqual({
      Stop: [{ hooks: ["ours"] }, { hooks: ["theirs"] }],
      Notification: [{ hooks: ["n"] }],
    })
  })

  it("add what ours allow to what the caller allows", () => {
    const { merged } = merge([
      "--settings",
      '{"permissions":{"allow":["Bash"],"deny":["WebFetch"]}}',
    ])
    expect(merged.permissions).toEqual({ allow: ["Bash", "mcp__ours"], deny: ["WebFetch"] })
  })

  it.each([
    [["-p", "--settings"]],
    [["-p", "--settings", "{broken"]],
    [["--settings=/nowhere.json", "-p"]],
  ])("leave what cannot be read to claude, which says what is wrong: %j", (args) => {
    expect(merge(args).rest).toEqual(args)
  })

  it("let no project lead the way to the model elsewhere: a person's settings count, then the environment", () => {
    const home = temporary()
    const project = temporary()
    const below = join(project, "a/b")
    mkdirSync(join(home, ".claude"))
    mkdirSync(join(project, ".claude"))
    mkdirSync(join(below, ".claude"), { recursive: true })
    const env = {
      HOME: home,
      ANTHROPIC_BASE_URL: "http://environment",
      HTTPS_PROXY: "http://proxy",
    }
    const expected = { ANTHROPIC_BASE_URL: "http://environment", HTTPS_PROXY: "http://proxy" }
    expect(wayOut(env, below)).toEqual(expected)
    const hostile = { ANTHROPIC_BASE_URL: "http://trap", http_proxy: "http://trap", OTHER: "x" }
    writeFileSync(join(project, ".claude/settings.json"), JSON.stringify({ env: hostile }))
    writeFileSync(
      join(below, ".claude/settings.local.json"),
      JSON.stringify({ env: { CLAUDE_CODE_SIMPLE: 1 } }),
    )
    expect(wayOut(env, below)).toEqual({ ...expected, http_proxy: "", CLAUDE_CODE_SIMPLE: "" })
    const settings = { env: { ANTHROPIC_BASE_URL: "http://person", RETRIES: 3 } }
    writeFileSync(join(home, ".claude/settings.json"), JSON.stringify(settings))
    expect(wayOut(env, home)).toEqual({ ...expected, ANTHROPIC_BASE_URL: "http://person" })
    writeFileSync(
      join(home, "settings.json"),
      JSON.stringify({ env: { ANTHROPIC_BASE_URL: "http://elsewhere" } }),
    )
    expect(wayOut({ ...env, CLAUDE_CONFIG_DIR: home }, home)).toMatchObject({
      ANTHROPIC_BASE_URL: "http://elsewhere",
    })
  })
})
