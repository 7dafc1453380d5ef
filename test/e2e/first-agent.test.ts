import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { expect, it, vi } from "vitest"
import { type ModelRequest, say, use } from "../model/model.ts"
import { git, layouts } from "./code-root.ts"
import { eventually, main, makeWorld, type World } from "./world.ts"

vi.setConfig({ testTimeout: 300_000 })

const read = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`../../${name}`, import.meta.url)), "utf8")
/** The steps under "The first agent", as they stand in README. */
const [, steps = ""] = /## The first agent\n\n(.*?)\n\n/s.exec(read("README.md")) ?? []

/** A shell of a person who has set nothing of ours. */
function shell(world: World) {
  const home = join(world.directory, "person")
  mkdirSync(home)
  const plain = Object.entries(world.env).filter(([name]) => !/^(BLACKBOX5|XDG)/.test(name))
  return { ...Object.fromEntries(plain), HOME: home, CLAUDE_CONFIG_DIR: "" }
}

it.each(layouts)(
  "README's first agent, word for word, on the public %s checkout",
  async (layout) => {
    let told = ""
    await using world: World = await makeWorld(
      ({ text, toolResults }: ModelRequest) => {
        if (text.includes("Start an agent on shop")) {
          const tool = (name: string, input: object, step: string) =>
            use([{ name: `mcp__blackbox5__${name}`, input }], { text: step })
          if (!text.includes("step one"))
            return tool(
              "spawn_instance",
              { project: "shop", goal: "Write a price list.", budget: { usd: 5 } },
              "step one",
            )
          told = toolResults.map((one) => one.text).join("\n")
          // A wait may end before the agent does, on a busy machine: then it is called again.
          if (!told.includes("Completed"))
            return tool("wait_for_instances", { names: ["shop-1"], until: "finished" }, "step two")
          return say("shop-1 has written a price list.")
        }
        if (toolResults.length > 0) return say("<promise>COMPLETE</promise>")
        const command =
          'cd "$RALF_PROJECT_DIR" && echo tea > prices.md && git add prices.md && git commit -q -m "Add a price list"'
        return use([{ name: "Bash", input: { command, description: "commit" } }])
      },
      { layout },
    )
    const env = shell(world)

    // 1. The command, without the build that npm start makes first: other tests run what was built.
    expect(JSON.parse(read("package.json")).scripts.start).toMatch(
      / && node(?: --[\w-]+=\d+)* dist\/main\.js serve$/,
    )
    const [, given = ""] = /`npm start -- ([^`]+)`/.exec(steps) ?? []
    const args = given.replace("/path/to/checkout", world.codeRoot).split(" ")
    expect(args).toEqual(["--code-root", world.codeRoot])
    const serve = spawn(process.execPath, [main, "serve", ...args], {
      env: { ...env, BLACKBOX5_PORT: "0" },
      cwd: world.directory,
    })
    let screen = ""
    serve.stdout.on("data", (chunk: Buffer) => {
      screen += chunk.toString()
    })
    try {
      // 2. The line that is to be copied into a shell.
      const [, mark = ""] = /Copy the line `\.\.\. ([^`]+)`/.exec(steps) ?? []
      const line = await eventually(
        () => screen.split("\n").find((one) => one.includes(` ${mark} `)),
        "the line on the screen",
      )
      expect((await run("sh", ["-c", line.trim()], env, env.HOME)).code).toBe(0)

      // 3. What is said in Claude Code.
      const [, words = ""] = /In Claude Code: \*"(.+)"\*/.exec(steps) ?? []
      const asked = await run(
        "claude",
        ["-p", "--dangerously-skip-permissions", words],
        env,
        world.codeRoot,
      )
      expect(asked).toMatchObject({
        code: 0,
        said: expect.stringContaining("shop-1 has written a price list."),
      })
      expect(told).toContain("shop-1")
      expect(git(world.projectOf("shop"), "log", "-1", "--format=%s")).toBe("Add a price list")
    } finally {
      serve.kill("SIGKILL")
      await once(serve, "exit")
    }
  },
)

/** As a person does; what it printed, and its exit code. */
async function run(program: string, args: readonly string[], env: NodeJS.ProcessEnv, cwd: string) {
  const child = spawn(program, args, { env, cwd, stdio: ["ignore", "pipe", "inherit"] })
  let said = ""
  child.stdout.on("data", (chunk: Buffer) => {
    said += chunk.toString()
  })
  const [code] = await once(child, "close")
  return { code, said }
}
