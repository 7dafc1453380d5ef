import { existsSync, statSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { unfenced } from "../../src/roles/fence.ts"
import { type ModelRequest, say, use } from "../model/model.ts"
import { hasNamespaces, people } from "./person.ts"
import { eventually, makeWorld, processesOf, standsStill } from "./world.ts"

/**
 * The README's story for who is not root, on a machine whose /bin/sh is dash, and on one where it
 * is bash.
 */

const pidAndMount = "pid and mount namespaces"
const commit =
  'cd "$RALF_PROJECT_DIR" && date +%N > work.md && git add work.md && git commit -q -m "Add work.md"'
const script = ({ toolResults, text }: ModelRequest) =>
  text.includes("That is enough.")
    ? say("<promise>COMPLETE</promise>")
    : use([{ name: "Bash", input: { command: toolResults.length === 0 ? commit : "sleep 0.2" } }])
const receiptsSchema = z.array(z.object({ state: z.string(), note: z.string() }))
const fencedSchema = z.string().transform(unfenced)
const workSchema = z.object({ untrusted: z.object({ path: fencedSchema, branch: fencedSchema }) })

describe.each(people.filter(({ user }) => user === "ordinary"))(
  "an $user user, with $shell as /bin/sh",
  (person) => {
    it("spawns two agents, talks to them, pauses, resumes, stops and removes them", async () => {
      await using world = await makeWorld(script, { person })
      const said = async (program: string, ...args: string[]) =>
        (await world.run(program, args)).stdout.trim()
      expect(await said("id", "-u")).not.toBe("0")
      expect(await said("/bin/sh", "-c", 'echo "${' + 'BASH_VERSION:+bash}"')).toBe(
        person.shell === "bash" ? "bash" : "",
      )

      const { call } = await world.connect()
      // The isolation is what the kernel gives this user, and said so.
      const { isolation } = await call("fleet_status")
      expect(isolation === pidAndMount).toBe(hasNamespaces(person.user))
      const file = statSync(join(world.state, "serve.json"))
      expect([String(file.uid), file.mode & 0o777]).toEqual([await said("id", "-u"), 0o600])

      const phaseOf = async (name: string) => (await call("inspect_instance", { name })).phase
      await call("spawn_instance", { project: "shop", name: "one", goal: "Work." })
      const { uid, workspace } = await call("spawn_instance", {
        project: "shop",
        name: "two",
        goal: "Work.",
      })
      const { path, branch } = workSchema.parse(workspace).untrusted
      const logOf = (where: string) => world.run("git", ["-C", where, "log", "-1", "--format=%s"])
      for (const where of [world.projectOf("shop"), path])
        await eventually(async () => (await logOf(where)).stdout === "Add work.md\n", "a commit")
      expect(String(statSync(join(path, "work.md")).uid)).toBe(await said("id", "-u"))

      const message = { to: ["one", "two"], text: "Use euros.", urgency: "now", waitSeconds: 45 }
      for (const { state, note } of receiptsSchema.parse(
        (await call("message_instances", message)).receipts,
      ))
        expect([state, note]).toEqual(["delivered", expect.stringContaining("PostToolUse")])

      const agents = () =>
        processesOf(world.directory).filter(
          ({ command }) => !/main\.js (serve|agent|mcp)/.test(command),
        )
      await call("pause_instances", { names: ["one", "two"] })
      await eventually(
        async () => (await phaseOf("one")) === "Paused" && (await phaseOf("two")) === "Paused",
        "paused",
      )
      await eventually(() => agents().every(standsStill), "all stand still")
      expect(agents().length).toBeGreaterThan(4)
      const asked = world.model.requests.length
      await call("resume_instances", { names: ["one", "two"] })
      await eventually(() => world.model.requests.length > asked + 2, "they go on")

      expect((await world.cli("stop-instances", "two")).code).toBe(0)
      await eventually(async () => (await phaseOf("two")) === "Stopped", "stopped")
      await call("stop_instances", { names: ["two"], remove: true })
      await call("message_instances", {
        to: ["one"],
        text: "That is enough.",
        urgency: "now",
        waitSeconds: 0,
      })
      await eventually(async () => (await phaseOf("one")) === "Completed", "completed")
      await call("stop_instances", { names: ["one"], remove: true })
      await eventually(async () => (await call("list_instances")).total === 0, "removed")
      await eventually(() => agents().length === 0, "no process is left")
      expect([existsSync(path), existsSync(join(world.state, "instances", String(uid)))]).toEqual([
        false,
        false,
      ])
      expect(
        await said("git", "-C", world.projectOf("shop"), "log", "-1", "--format=%s", branch),
      ).toBe("Add work.md")
    }, 240_000)
  },
)
