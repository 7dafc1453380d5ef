import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { readlinkSync } from "node:fs"
import { expect, it } from "vitest"
import { z } from "zod"
import { say } from "../model/model.ts"
import { eventually, main, makeWorld, processesOf, type World } from "./world.ts"

const entered = "\u001b[?1049h"
const left = "\u001b[?1049l"

/** top on a terminal of 20 lines, which `script` of util-linux makes. */
function watch(world: World, more: Record<string, string> = {}) {
  const words = `stty rows 20 cols 100; exec ${process.execPath} ${main} top`
  const env = { ...world.env, TERM: "xterm-256color", ...more }
  const child = spawn("script", ["-qec", words, "/dev/null"], { env, cwd: world.codeRoot })
  let text = ""
  child.stdout.setEncoding("utf8").on("data", (data: string) => {
    text += data
  })
  /** The lines of the last screen that was drawn whole. */
  const screen = (): readonly string[] => {
    const end = text.lastIndexOf("\u001b[J")
    const drawn = text.slice(text.lastIndexOf("\u001b[H", end) + 3, Math.max(0, end))
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what colours and erases a line
    return drawn.split("\r\n").map((line) => line.replace(/\u001b\[[0-9;]*[mK]/g, "").trimEnd())
  }
  return {
    ...{ screen, text: () => text },
    press: (keys: string) => child.stdin.write(keys),
    sees: (line: RegExp) =>
      eventually(() => screen().some((one) => line.test(one)), `${line} on the screen`),
    /** As a person who pulls at the window's corner. */
    resize: (columns: number) => {
      const pid =
        processesOf(world.directory).find(({ command }) => / top $/.test(command))?.pid ?? 0
      execFileSync("stty", ["-F", readlinkSync(`/proc/${pid}/fd/0`), "cols", String(columns)])
    },
    pid: () => processesOf(world.directory).find(({ command }) => / top $/.test(command))?.pid ?? 0,
    ended: once(child, "close").then(() => child.exitCode),
  }
}

it("is a live table of the fleet whose keys pause, resume, tell and show, through the death of serve, until q", async () => {
  await using world = await makeWorld(() => say("unused"), {
    policy: "turnsMax: 1\nloops: { wait: [bash, -c, 'echo hello; sleep 1000'] }\n",
  })
  const start = (name: string) =>
    world.cli("spawn-instance", "--project", "shop", "--name", name, "--loop", "wait")
  await start("one")
  const { press, resize, sees, screen, ended, text } = watch(world)
  await sees(/^> one +shop +Running/)
  expect(screen()).toHaveLength(20)
  // Unasked: what others do.
  await start("two")
  // In their lasting order: one that still starts may stand elsewhere.
  await sees(/^ {2}two +shop +Running/)
  const rowOf = (name: string) => screen().findIndex((line) => line.slice(2).startsWith(`${name} `))
  press(rowOf("one") < rowOf("two") ? "\u001b[B" : "\u001b[A")
  await sees(/^> two /)
  press("p")
  await sees(/^> two +shop +Paused/)
  press("mUse euros.\r")
  await sees(/^two: queued/)
  const { messages } = z
    .object({ messages: z.array(z.object({ to: z.string(), untrusted: z.string() })) })
    .parse(JSON.parse((await world.cli("read-messages", "--sent", "--json")).stdout))
  expect(messages).toMatchObject([{ to: "two", untrusted: expect.stringContaining("Use euros.") }])
  press("r")
  await sees(/^> two +shop +(?:Starting|Waiting|Running)/)
  press("i")
  await sees(/MailSent/)
  press("\u001b")
  await sees(/^> two /)
  press("l")
  await sees(/Z hello$/)
  press("q")
  resize(60)
  await sees(/^p pause .* q quit$/)
  expect(screen()[3]).toMatch(/^ {2}NAME +PHASE +USED +NOW$/)
  resize(100)
  await sees(/^ {2}NAME +PROJECT +PHASE +ITER/)
  press("s")
  await sees(/^Stop two\? /)
  press("n")
  await sees(/^Did not stop two\.$/)
  press("s")
  await sees(/^Stop two\? /)
  press("y")
  await sees(/^> two +shop +Stopped/)
  press("l")
  await sees(/Z hello$/)
  process.kill(world.servePid(), "SIGKILL")
  press("q")
  await start("three")
  await sees(/three +shop/)
  press("q")
  expect(await ended).toBe(0)
  expect(text().indexOf(entered)).toBeGreaterThanOrEqual(0)
  expect(text().trimEnd().endsWith(left)).toBe(true)
}, 120_000)

it("gives the terminal back at every end, draws without colours where NO_COLOR is set, and wants a terminal", async () => {
  await using world = await makeWorld(() => say("unused"))
  await world.cli("fleet-status")
  for (const [signal, code] of [
    ["SIGTERM", 143],
    ["SIGINT", 130],
    ["SIGHUP", 129],
  ] as const) {
    const { sees, pid, ended, text } = watch(world, { NO_COLOR: "1" })
    await sees(/There are no agents/)
    process.kill(pid(), signal)
    expect([signal, await ended]).toEqual([signal, code])
    expect(text().trimEnd().endsWith(left)).toBe(true)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what colours are made of
    expect(text()).not.toMatch(/\u001b\[[0-9;]+m/)
  }
  const { press, sees, ended, text } = watch(world)
  await sees(/There are no agents/)
  expect(text()).toContain("\u001b[1m")
  press("\u0003")
  expect(await ended).toBe(0)
  expect(await world.cli("top")).toEqual({
    ...{ code: 1, stdout: "" },
    stderr: expect.stringMatching(
      /top needs a terminal.\nnext: Use `\S+ \S+main\.js list-instances`/,
    ),
  })
  expect(await world.cli("top", "one")).toMatchObject({ code: 2 })
}, 120_000)
