import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { expect, it, vi } from "vitest"
import { say, use } from "../model/model.ts"
import { git } from "./code-root.ts"
import { eventually, makeWorld, processesOf } from "./world.ts"

vi.setConfig({ testTimeout: 240_000 })

/**
 * A fleet that is started from inside of a git hook, in tmux, by an agent of Claude Code, in an
 * editor.
 */
it("an agent commits into its own repository, and takes nothing over from where its control plane was started", async () => {
  let made = false
  await using world = await makeWorld(({ toolResults }) => {
    if (made || toolResults.length > 0) return say("<promise>COMPLETE</promise>")
    made = true
    const command = `env > ${join(world.directory, "seen")}; cd ${world.projectOf("shop")} && echo tea > prices.md && git add prices.md && git commit -q -m "Add prices"`
    return use([{ name: "Bash", input: { command, description: "commit" } }])
  })
  const other = join(world.directory, "other")
  mkdirSync(other)
  git(other, "init", "-q", "-b", "main")
  writeFileSync(join(other, "mine.md"), "mine\n")
  git(other, "add", "-A")
  git(other, "commit", "-q", "-m", "Mine")
  const index = readFileSync(join(other, ".git/index"))
  const tied = {
    GIT_DIR: join(other, ".git"),
    GIT_INDEX_FILE: join(other, ".git/index"),
    GIT_WORK_TREE: other,
    GIT_PREFIX: "",
    GIT_AUTHOR_DATE: "@1 +0000",
    TMUX: "/tmp/tmux-0/default,1,0",
    TMUX_PANE: "%1",
    STY: "1.mine",
    CLAUDECODE: "1",
    CLAUDE_CODE_SESSION_ID: "s-1",
    CLAUDE_CODE_ENTRYPOINT: "cli",
    CLAUDE_PROJECT_DIR: other,
    VSCODE_IPC_HOOK_CLI: "/run/vscode.sock",
    NVIM: "/run/nvim.sock",
    RALF_PROJECT_DIR: other,
  }
  Object.assign(world.env, tied)
  const { call } = await world.connect()
  await call("spawn_instance", { project: "shop", name: "one" })
  await eventually(
    async () => (await call("inspect_instance", { name: "one" })).phase === "Completed",
    "Completed",
  )

  expect(git(world.projectOf("shop"), "log", "--format=%s")).toBe("Add prices\nBegin")
  expect(Number(git(world.projectOf("shop"), "log", "-1", "--format=%at"))).toBeGreaterThan(1)
  expect(git(other, "log", "--format=%s")).toBe("Mine")
  expect(readFileSync(join(other, ".git/index"))).toEqual(index)

  const seen = new Map(
    readFileSync(join(world.directory, "seen"), "utf8")
      .split("\n")
      .map(
        (line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)] as const,
      ),
  )
  const over = Object.entries(tied).filter(([name, value]) => seen.get(name) === value)
  // Claude Code says of its own tools that they are its own; the values are another session's.
  expect(
    over.filter(([name]) => name !== "CLAUDECODE" && name !== "CLAUDE_CODE_ENTRYPOINT"),
  ).toEqual([])
  expect(seen.get("RALF_PROJECT_DIR")).toBe(world.projectOf("shop"))
  expect(seen.get("ANTHROPIC_API_KEY")).toBe(world.env.ANTHROPIC_API_KEY)

  // serve, too: what it starts later must not find them either.
  const serve = processesOf(world.directory).find(({ command }) =>
    command.includes("main.js serve"),
  )
  const inherited = readFileSync(`/proc/${serve?.pid}/environ`, "utf8").split("\0")
  const left = Object.keys(tied).filter((name) =>
    inherited.some((entry) => entry.startsWith(`${name}=`)),
  )
  expect(left).toEqual(["CLAUDE_PROJECT_DIR"]) // where a client's code root may be looked for
})
