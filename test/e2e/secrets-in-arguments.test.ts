import { readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { expect, it } from "vitest"
import { z } from "zod"
import { hold, type ModelRequest, type Reply, say, use } from "../model/model.ts"
import { people } from "./person.ts"
import { eventually, makeWorld, processesOf } from "./world.ts"

const never = new Promise<never>(() => {})
const supervisorSchema = z.object({ token: z.string().min(20) })

it.each(people)(
  "$user's arguments (with $shell) hold no proxy's password, no token and no server's header while claudes run, and no file stays",
  async (person) => {
    const password = "pass-5aP9-word"
    const header = "header-7bQ2-value"
    let nested = false
    let done = false
    const script = ({ text, toolResults }: ModelRequest): Reply => {
      if (text.includes("The nested work")) {
        nested = true
        return hold(say("never"), never)
      }
      if (done || toolResults.length > 0) return say("Status: PARTIAL")
      return use([
        {
          name: "Bash",
          input: { command: "claude -p 'The nested work.' < /dev/null", timeout: 600_000 },
        },
      ])
    }
    await using world = await makeWorld(script, {
      person,
      env: { HTTPS_PROXY: `http://user:${password}@127.0.0.1:9`, LOOP_PAUSE: "1000" },
    })
    const servers = `servers:\n  shelf:\n    url: http://127.0.0.1:9/mcp\n    headers: { X-Shelf: ${header} }\n`
    world.write(join(world.env.BLACKBOX5_CONFIG ?? "", "mcp-servers.yaml"), servers)
    const { call } = await world.connect()
    const { uid } = await call("spawn_instance", { project: "shop", name: "one" })
    await eventually(() => nested, "a claude and one inside of it work")
    const run = world.runOf(z.string().parse(uid))
    const { token } = supervisorSchema.parse(
      JSON.parse(readFileSync(join(run, "status/supervisor.json"), "utf8")),
    )
    const commands = processesOf(world.directory).map(({ command }) => command)
    const claudes = commands.filter((command) => command.includes("--settings"))
    expect(claudes.length).toBeGreaterThanOrEqual(2)
    for (const secret of [password, token, header])
      expect(commands.filter((command) => command.includes(secret))).toEqual([])

    const given = join(run, "bin/given")
    const texts = readdirSync(given).map((name) => {
      expect(statSync(join(given, name)).mode & 0o777).toBe(0o600)
      return readFileSync(join(given, name), "utf8")
    })
    for (const secret of [password, token, header])
      expect(texts.some((text) => text.includes(secret))).toBe(true)
    // Whoever ends the nested claude lets the iteration end.
    done = true
    for (const { pid, command } of processesOf(world.directory))
      if (command.includes("claude") && command.includes("The nested work"))
        process.kill(pid, "SIGKILL")
    await eventually(() => !readdirSync(join(run, "bin")).includes("given"), "the files are gone")
  },
  120_000,
)
