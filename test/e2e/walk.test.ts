import { existsSync, readdirSync, readFileSync } from "node:fs"
import { delimiter, dirname, join, resolve } from "node:path"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { type ModelRequest, say, use } from "../model/model.ts"
import { people } from "./person.ts"
import { eventually, makeWorld, processesOf, type World } from "./world.ts"

/**
 * Every path that our processes outside of an agent's namespaces look at while it runs, as strace
 * saw them: whether it is executed, read, written, or not there. From inside, nothing of it may be
 * written, nor made, nor put in the place of what is there.
 */

/**
 * What is looked at as data by design: nothing of it is executed outside, and it is believed only
 * within bounds.
 */
const dataByDesign = ({ codeRoot, state, env, directory }: World): readonly RegExp[] => {
  const home = env.HOME ?? ""
  const exactly = (path: string): string => path.replace(/[^\w/]/g, "\\$&")
  const below = (path: string): RegExp => new RegExp(`^${exactly(path)}(?:/|$)`)
  return [
    // Work trees and their repositories: through our own git, which runs nothing of theirs
    // (SECURITY.md), and by looking what there is.
    ...[codeRoot, join(state, "trees"), join(state, "clones")].map(below),
    // Claude's own record of what it did, which only raises counts.
    below(join(env.CLAUDE_CONFIG_DIR ?? join(home, ".claude"), "projects")),
    // Claude itself: found outside, executed inside alone.
    /\/claude$/,
    // Where a loop's tmux and screen have their sockets: made for it, and removed when nothing of
    // it runs.
    /^\/tmp\/bb5-\w{6}(?:\/screen|\/tmux-\d+.*)?$/,
    // Where there may be a door to hide, or a command to seal. What is not there when the loop
    // begins is nobody's.
    /^\/(?:run|tmp)\/u?screens?(?:\/|$)|^\/run(?:\/user.*)?$/,
    ...[".screen", ".local/bin"].map((name) => below(join(home, name))),
    below(join(directory, "checkout/package.json")),
    // The system's own view of the caller, which is another one inside.
    /^\/(?:proc|dev|sys)(?:\/|$)/,
  ]
}
/**
 * Root's agents install packages: what belongs to the system, and programs on root's PATH, they may
 * change (SECURITY.md).
 */
function isRoots(line: string): boolean {
  const [path = ""] = line.split("\t")
  const onPath = (process.env.PATH ?? "").split(delimiter).includes(dirname(path))
  return (
    onPath || path === "/" || /^\/(?:usr|bin|sbin|lib\w*|etc|var\/lib|selinux)(?:\/|$)/.test(path)
  )
}

/**
 * A call of the file system, with the directory that the path is relative to. Written by `strace
 * -y`.
 */
const call = /^(\d+\.\d+) (\w+)\((?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"/
/** It returned the number of a child, or of a thread. */
const birth = /^\d+\.\d+ (?:v?fork|clone3?)\(.*\) = (\d+)$/
const entersNamespace = /execve\("[^"]*\/unshare", .* = 0$/

/**
 * What was looked at since a moment by a program and all below it that is outside of any loop's
 * namespaces; true for what was opened, not only looked for. `traces`: of `strace -ff`.
 */
function pathsSeen(traces: string, sinceSeconds: number): ReadonlyMap<string, boolean> {
  const linesOf = new Map(
    readdirSync(traces).map((name) => [
      Number(name.split(".").at(-1)),
      readFileSync(join(traces, name), "utf8").split("\n"),
    ]),
  )
  const paths = new Map<string, boolean>()
  const follow = (pid: number, from: string): void => {
    let directory = from
    const lines = linesOf.get(pid) ?? []
    linesOf.delete(pid)
    // What `unshare` starts is inside.
    const end = lines.findIndex((line) => entersNamespace.test(line))
    for (const line of lines.slice(0, end < 0 ? undefined : end + 1)) {
      const child = Number(birth.exec(line)?.[1])
      if (child) follow(child, directory)
      const [, at = "", name = "", relativeTo = directory, text = ""] = call.exec(line) ?? []
      if (text === "") continue
      const path = resolve(relativeTo, text)
      if (name === "chdir" && line.endsWith(" = 0")) directory = path
      else if (Number(at) >= sinceSeconds)
        paths.set(path, paths.get(path) || /^(?:open|exec)/.test(name))
    }
  }
  for (const [pid, [first = ""]] of [...linesOf])
    if (first.includes('main.js", "serve"]')) follow(pid, "/")
  return paths
}

/**
 * Runs inside: prints each path of a file that could be written, made, or replaced on the way to
 * it, with what allows it.
 */
const tryThem = `
import { accessSync, constants, lstatSync, readFileSync, readlinkSync } from "node:fs"
import { dirname, join } from "node:path"
const points = new Set(readFileSync("/proc/self/mountinfo", "utf8").split("\\n").map((line) => line.split(" ")[4]))
const attempt = (work) => { try { return work() } catch { return undefined } }
const writable = (path) => attempt(() => accessSync(path, constants.W_OK) ?? true) ?? false
const opening = (path, isOpened) => {
  let at = "/", rest = path.split("/").filter(Boolean), stat
  for (let steps = 0; rest.length > 0 && steps < 200; steps++) {
    const [name, ...others] = rest
    const next = join(at, name)
    stat = attempt(() => lstatSync(next))
    if (!stat) return writable(at) ? "made in " + at : undefined
    if (writable(at) && !points.has(next)) return "replaced at " + next
    const target = stat.isSymbolicLink() ? readlinkSync(next) : undefined
    rest = [...(target?.split("/").filter(Boolean) ?? []), ...others]
    if (target === undefined) at = next
    else if (target.startsWith("/")) at = "/"
  }
  // Of a directory that is passed through, only what is in it counts.
  return writable(at) && (isOpened || !stat?.isDirectory()) ? "written" : undefined
}
for (const line of readFileSync(process.argv[2], "utf8").split("\\n").filter(Boolean)) {
  const [isOpened, path] = JSON.parse(line)
  const how = opening(path, isOpened)
  if (how) console.log(path + "\\t" + how)
}
`

const bash = (command: string) => use([{ name: "Bash", input: { command, timeout: 600_000 } }])

describe.each(people.filter(({ shell }) => shell === people[0]?.shell))(
  "the agent of the user $user",
  (person) => {
    it("can write nothing that our processes look at while it runs", async () => {
      await using world = await makeWorld(
        ({ toolResults, text }: ModelRequest) => {
          if (toolResults.length > 0) return say("<promise>COMPLETE</promise>")
          return text.includes("Wait.")
            ? bash(
                `until [ -e ${notes}/go ]; do sleep 0.1; done; ${node} ${notes}/try.mjs ${notes}/paths > ${notes}/open && touch ${notes}/tried`,
              )
            : bash("date > work.md && git add work.md && git commit -q -m Work")
        },
        { person, under: "a" },
      )
      const notes = join(world.directory, "notes")
      const node = join(world.main, "../../node_modules/node/bin/node")
      await world.run("mkdir", ["-p", join(notes, "traces")])
      world.write(join(notes, "try.mjs"), tryThem)
      const follow = "-ff -ttt -y -qq -s 4096 --seccomp-bpf -e trace=%file,%process -o".split(" ")
      void world.run("strace", [...follow, join(notes, "traces/t"), node, world.main, "serve"])
      await eventually(() => existsSync(join(world.state, "serve.json")), "serve")

      const { call } = await world.connect()
      const { isolation, warnings } = await call("fleet_status")
      if (isolation !== "pid and mount namespaces") {
        expect(String(warnings)).toContain("can change what Blackbox5 runs")
        return
      }
      const one = z
        .object({ uid: z.string() })
        .parse(await call("spawn_instance", { project: "shop", name: "one", goal: "Wait." }))
      await eventually(() => world.model.requests.length > 0, "the agent works")
      const sinceSeconds = Date.now() / 1000

      // All that the fleet does beside it: another agent in a tree of its own from spawn to
      // removal, a successor of its supervisor, settings.
      world.policy("turnsMax: 3\n")
      await call("spawn_instance", { project: "shop", name: "two", goal: "Work." })
      await eventually(
        async () => (await call("inspect_instance", { name: "two" })).phase === "Completed",
        "two is complete",
      )
      await call("message_instances", { to: ["one"], text: "Go on.", waitSeconds: 0 })
      for (const source of ["loop", "transcript"]) await call("read_logs", { name: "two", source })
      await call("stop_instances", { names: ["two"], remove: true })
      await eventually(async () => (await call("list_instances")).total === 1, "two is removed")
      const supervisor = () =>
        processesOf(world.directory).find(
          ({ command }) => /main\.js agent .*/.test(command) && command.includes(one.uid),
        )
      const before = supervisor()?.pid ?? 0
      process.kill(before, "SIGKILL")
      await eventually(() => (supervisor()?.pid ?? before) !== before, "another supervisor")
      await eventually(
        async () => (await call("inspect_instance", { name: "one" })).phase === "Running",
        "it is there",
      )

      const seen = pathsSeen(join(notes, "traces"), sinceSeconds)
      expect([...seen.keys()]).toContain(world.main)
      const data = dataByDesign(world)
      const asked = [...seen].filter(([path]) => !data.some((pattern) => pattern.test(path)))
      world.write(
        join(notes, "paths"),
        asked.map(([path, isOpened]) => JSON.stringify([isOpened, path])).join("\n"),
      )
      world.write(join(notes, "go"), "")
      await eventually(() => existsSync(join(notes, "tried")), "it has tried")
      const open = readFileSync(join(notes, "open"), "utf8").split("\n").filter(Boolean)
      expect(open.filter((line) => person.user !== "root" || !isRoots(line)).toSorted()).toEqual([])
    }, 600_000)
  },
)
