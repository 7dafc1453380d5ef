import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { drop, hold, type ModelRequest, say, use } from "../model/model.ts"
import { git, layouts, scriptOf } from "./code-root.ts"
import { eventually, makeWorld, processesOf, standsStill, type World } from "./world.ts"

/** Processor time of a process so far, in clock ticks (proc(5), fields utime and stime). */
const ticksOf = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]?.split(" ") ?? []
  return Number(fields[11]) + Number(fields[12])
}
const supervisorOf = (world: World, uid: string): number =>
  z
    .object({ pid: z.number() })
    .parse(JSON.parse(readFileSync(join(world.runOf(uid), "status/supervisor.json"), "utf8"))).pid
const receipts = z.array(
  z.object({ mail: z.string(), to: z.string(), state: z.string(), note: z.string() }),
)

describe.each(layouts)(
  "a day with one agent of the public %s checkout, from an MCP client over stdio",
  (layout) => {
    it("spawns, commits, is talked to in the middle of its work, is paused through every kind of death, resumes and completes", async () => {
      const go = Promise.withResolvers<void>()
      const cut = Promise.withResolvers<void>()
      const iterationOf = new Map<string, number>()
      const bash = (command: string) => ({
        name: "Bash",
        input: { command, description: command.slice(0, 40) },
      })
      let pausedAt = "" // the directory where the long command waits

      // What the model "thinks", told by what it has seen.
      await using world = await makeWorld(
        (request: ModelRequest) => {
          const session = request.session ?? ""
          if (!iterationOf.has(session)) iterationOf.set(session, iterationOf.size + 1)
          if (iterationOf.get(session) === 1) {
            if (request.toolResults.length === 0 && !request.text.includes("step one")) {
              const project = world.projectOf("shop")
              return use(
                [
                  bash(
                    `cd ${project} && echo "a price list" > prices.md && git add prices.md && git commit -q -m "Add a price list"`,
                  ),
                ],
                { text: "step one" },
              )
            }
            // Until the urgent mail is there.
            if (!request.text.includes("use euros")) return use([bash("sleep 0.2")])
            // The ordinary mail comes at Stop.
            if (!request.text.includes("write it down")) return say("Status: PARTIAL")
            return say("Noted.\nStatus: PARTIAL")
          }
          if (request.toolResults.length === 0 && !request.text.includes("step two")) {
            pausedAt = world.projectOf("shop")
            // The tool starts as soon as its block is complete, while the stream is still open: and
            // then the stream breaks.
            const turn = use(
              [
                bash(
                  `cd ${pausedAt} && (sleep 1000 > /dev/null 2>&1 &) ; while [ ! -e go ]; do :; done; rm go`,
                ),
              ],
              {
                text: "step two",
              },
            )
            return drop(hold(turn, cut.promise, { afterEvents: 7 }), { afterEvents: 7 })
          }
          return say("All done.\n<promise>COMPLETE</promise>")
        },
        { layout },
      )
      const { call } = await world.connect()

      // spawn -> the loop runs the real claude, whose tool commits
      const spawned = await call("spawn_instance", {
        project: "shop",
        goal: "Sell things.",
        model: "claude-sonnet-4-5",
      })
      expect(spawned).toMatchObject({ name: "shop-1", phase: "Starting", created: true })
      expect(spawned.loop).toContain(`${scriptOf(layout)} in ${world.codeRoot}`)
      const uid = z.string().parse(spawned.uid)
      await eventually(
        () => git(world.projectOf("shop"), "log", "-1", "--format=%s") === "Add a price list",
        "the agent's commit",
      )
      expect(world.model.requests[0]?.text).toContain("Sell things.")

      // mail: urgent at the next tool, ordinary at Stop
      const urgent = receipts.parse(
        (
          await call("message_instances", {
            to: ["shop-1"],
            text: "Please use euros.",
            urgency: "now",
            waitSeconds: 30,
          })
        ).receipts,
      )
      expect(urgent).toMatchObject([
        {
          to: "shop-1",
          state: "delivered",
          note: expect.stringMatching(/iteration 1\b.*PostToolUse/),
        },
      ])
      const firstWithMail = world.model.requests.find(({ text }) => text.includes("use euros"))
      expect(iterationOf.get(firstWithMail?.session ?? "")).toBe(1)
      const ordinary = receipts.parse(
        (
          await call("message_instances", {
            to: ["shop-1"],
            text: "Also write it down.",
            waitSeconds: 0,
          })
        ).receipts,
      )
      const receiptOf = async (mail: string | undefined) =>
        z
          .object({
            messages: z.array(
              z.object({ mail: z.string(), state: z.string(), note: z.string().optional() }),
            ),
          })
          .parse(await call("read_messages", { mails: [mail] })).messages[0]
      await eventually(
        async () => (await receiptOf(ordinary[0]?.mail))?.state === "delivered",
        "the ordinary mail's receipt",
      )
      expect((await receiptOf(ordinary[0]?.mail))?.note).toMatch(/Stop|UserPromptSubmit/)

      // pause in the middle of a shell command of claude, with one more in the background and an
      // open stream
      await eventually(
        () =>
          pausedAt !== "" &&
          processesOf(world.directory).some(({ command }) => command.includes("sleep 1000")),
        "the long command",
      )
      const agents = (): readonly { pid: number; state: string; command: string }[] =>
        processesOf(world.directory).filter(
          ({ command }) => !/main\.js (serve|agent|mcp)/.test(command),
        )
      await call("pause_instances", { names: ["shop-1"], note: "the night" })
      const still = (): boolean => agents().every(standsStill)
      await eventually(still, "every process of the instance stands still")
      const frozen = agents()
      for (const part of ["ralf-loop.sh", "main.js turn", "claude", "sleep 1000", "while ["])
        expect(frozen.map(({ command }) => command).join("\n")).toContain(part)
      const before = frozen.map(({ pid }) => ticksOf(pid))

      // meanwhile everything that could undo the pause dies
      process.kill(world.servePid(), "SIGKILL")
      process.kill(supervisorOf(world, uid), "SIGKILL")
      cut.resolve()
      const paused = await eventually(async () => {
        const seen = await call("inspect_instance", { name: "shop-1" })
        return seen.phase === "Paused" && String(seen.why).includes("are frozen") ? seen : undefined
      }, "paused, as a new supervisor says to a new serve")
      expect(paused.untrusted).toContain("the night")
      expect(frozen.map(({ pid }) => ticksOf(pid))).toEqual(before)
      expect(still()).toBe(true)
      expect(
        agents()
          .map(({ pid }) => pid)
          .toSorted(),
      ).toEqual(frozen.map(({ pid }) => pid).toSorted())

      // resume -> COMPLETE -> Completed
      writeFileSync(join(pausedAt, "go"), "")
      await call("resume_instances", { names: ["shop-1"] })
      go.resolve()
      const done = await eventually(async () => {
        const seen = await call("inspect_instance", { name: "shop-1" })
        return seen.phase === "Completed" ? seen : undefined
      }, "Completed")
      expect(existsSync(join(pausedAt, "go"))).toBe(false)

      // what it used is what the model reported
      const { input, output, cacheRead, cacheWrite } = world.model.billed
      // Claude-sonnet-4-5, US dollars a million tokens.
      const usd = (3 * input + 15 * output + 0.3 * cacheRead + 3.75 * cacheWrite) / 1e6
      const usage = z
        .object({ usd: z.number(), tokens: z.number(), iterations: z.number() })
        .parse(done.usage)
      expect(usage.tokens).toBe(input + output + cacheRead + cacheWrite)
      expect(usage.usd).toBeCloseTo(usd, 6)
      expect(usage.iterations).toBe(2)

      // nothing is left of it, also not what the agent had put into the background
      await eventually(() => agents().length === 0, "no process is left")
    })
  },
)
