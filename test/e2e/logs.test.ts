import { spawn } from "node:child_process"
import { once } from "node:events"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { expect, it } from "vitest"
import { say } from "../model/model.ts"
import { eventually, main, makeWorld, type World } from "./world.ts"

/** A loop that prints numbered lines when it is told to, until it is told to end. */
async function talking(): Promise<World & { say(from: number, to: number): void }> {
  const world = await makeWorld(() => say("unused"))
  const script = join(world.directory, "talk.sh")
  writeFileSync(
    script,
    `while [ ! -e ${world.directory}/end ]; do
       if [ -e ${world.directory}/say ]; then . ${world.directory}/say; rm ${world.directory}/say; seq -f 'line %g' $FROM $TO; fi
       sleep 0.05
     done
     sleep 1000`,
  )
  world.policy(`loops: { talk: [bash, ${script}] }\n`)
  const spawned = await world.cli(
    "spawn-instance",
    "--project",
    "shop",
    "--name",
    "one",
    "--loop",
    "talk",
  )
  expect(spawned.stderr).toBe("")
  return Object.assign(world, {
    say: (from: number, to: number) => {
      writeFileSync(join(world.directory, "say.part"), `FROM=${from} TO=${to}\n`)
      // Whole at once: the loop reads it when it is there.
      spawn("mv", [join(world.directory, "say.part"), join(world.directory, "say")])
    },
  })
}
const follow = (world: World, ...args: string[]) => {
  const child = spawn(process.execPath, [main, "logs", "one", "-f", ...args], {
    env: world.env,
    cwd: world.codeRoot,
  })
  let text = ""
  let problems = ""
  child.stdout.setEncoding("utf8").on("data", (more: string) => {
    text += more
  })
  child.stderr.setEncoding("utf8").on("data", (more: string) => {
    problems += more
  })
  return {
    child,
    text: () => text,
    problems: () => problems,
    ended: once(child, "exit").then(() => child.exitCode),
  }
}
const numbers = (text: string): readonly number[] =>
  [...text.matchAll(/^\S+Z line (\d+)$/gm)].map(([, number]) => Number(number))
const from = (first: number, last: number): readonly number[] =>
  Array.from({ length: last - first + 1 }, (_, at) => first + at)

it("follows what a loop prints, in order and once, through bursts and the death of serve, until Ctrl-C", async () => {
  await using world = await talking()
  world.say(1, 10)
  await eventually(
    async () => numbers((await world.cli("logs", "one")).stdout).length === 10,
    "ten lines",
  )
  const { child, text, ended, problems } = follow(world, "--tail", "3")
  await eventually(() => numbers(text()).length === 3, "the last three lines")
  // More than one page holds, in lines and in bytes.
  world.say(11, 9000)
  await eventually(() => numbers(text()).at(-1) === 9000, "the burst", 60)
  process.kill(world.servePid(), "SIGKILL")
  world.say(9001, 9100)
  await eventually(() => numbers(text()).at(-1) === 9100, "the lines after serve died", 60)
  child.kill("SIGINT")
  expect(await ended).toBe(130)
  expect(numbers(text())).toEqual(from(8, 9100))
  for (const strange of ["untrusted", "\u001b"]) expect(text()).not.toContain(strange)
  expect(problems()).not.toContain("gone")
}, 120_000)

it("prints once without -f, colours nothing but on a terminal, and honours NO_COLOR", async () => {
  await using world = await talking()
  world.say(1, 20)
  const plain = await eventually(async () => {
    const { stdout } = await world.cli("logs", "one", "--tail", "5")
    return numbers(stdout).at(-1) === 20 && stdout
  }, "twenty lines")
  expect(numbers(plain)).toEqual(from(16, 20))
  /** As on a terminal, which `script` makes. */
  const onTerminal = (more: Record<string, string>): Promise<string> =>
    new Promise((resolve) => {
      const words = [process.execPath, main, "logs", "one", "--tail", "1"].join(" ")
      const child = spawn("script", ["-qec", words, "/dev/null"], {
        env: { ...world.env, TERM: "xterm-256color", ...more },
      })
      let text = ""
      child.stdout.setEncoding("utf8").on("data", (data: string) => {
        text += data
      })
      child.once("close", () => resolve(text))
    })
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what colours are made of
  expect(await onTerminal({})).toMatch(/^\u001b\[2m\S+Z\u001b\[22m line 20\r?\n$/)
  expect(await onTerminal({ NO_COLOR: "1" })).toMatch(/^\S+Z line 20\r?\n$/)
  expect(await onTerminal({ NO_COLOR: "1" })).not.toContain("\u001b")

  for (const args of [
    [],
    ["one", "two"],
    ["one", "--tail", "0"],
    ["one", "--tail", "many"],
    ["one", "--source", "x"],
    ["one", "-x"],
  ])
    expect([args, await world.cli("logs", ...args)]).toEqual([
      args,
      { code: 2, stdout: "", stderr: expect.stringContaining("usage: blackbox5 logs") },
    ])
  expect(await world.cli("logs", "nobody", "-f")).toEqual({
    code: 1,
    stdout: "",
    stderr: expect.stringContaining("no instance nobody"),
  })
}, 120_000)
