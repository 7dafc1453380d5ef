import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from "node:fs"
import { dirname, join } from "node:path"
import { describe, expect, it } from "vitest"
import { say, use } from "../model/model.ts"
import { people } from "./person.ts"
import { claudeDirectory, eventually, makeWorld, type World } from "./world.ts"

/**
 * An agent plants programs and settings where an ordinary user's own are, and waits: for
 * Blackbox5's git, for its helpers, for a login shell that looks for claude, for a serve that is
 * started again. None of it may run outside of the agent.
 */

/** What tells that it ran outside: the agent's own processes have the mark. */
const caught = (loot: string, what: string): string =>
  `[ -n "$BLACKBOX5_INSTANCE" ] || echo "${what}" >> '${loot}'`
const programNames = [
  "git",
  "ssh",
  "sh",
  "cat",
  "ps",
  "mkfifo",
  "unshare",
  "setsid",
  "setpriv",
  "mount",
  "mkdir",
]

/** Files by path that the agent writes. */
function plantsOf(world: World, loot: string): Readonly<Record<string, string>> {
  const home = world.env.HOME ?? ""
  const thief = (name: string): string => `#!/bin/sh\n${caught(loot, name)}\n`
  const programs = ["home/.local/bin", "home/node_modules/.bin", "tree/bin"].flatMap((place) =>
    programNames.map((name) => [
      `${place}/${name}`,
      `${thief(`${place}/${name}`)}exec /usr/bin/${name} "$@"\n`,
    ]),
  )
  const config = (name: string): string =>
    `[core]\n\tsshCommand = '${home}/thief' ${name} ssh\n[filter "planted"]\n\tclean = '${home}/thief' ${name} filter\n[credential]\n\thelper = "!'${home}/thief' ${name} helper"\n`
  return {
    ...Object.fromEntries(programs),
    "home/thief": `${thief("thief $*")}cat\n`,
    "home/.gitconfig": config(".gitconfig"),
    "home/own.gitconfig": config("own.gitconfig"),
    "home/.config/git/config": config(".config/git/config"),
    "home/.profile": caught(loot, ".profile"),
    "home/.bash_profile": caught(loot, ".bash_profile"),
    "home/.bash_login": caught(loot, ".bash_login"),
    "home/.zprofile": caught(loot, ".zprofile"),
    "home/.zshenv": caught(loot, ".zshenv"),
    "tree/.gitattributes": "* filter=planted\n",
  }
}

/** Each user once: the shell has no part in it. */
const users = people.filter(
  ({ user }, at) => people.findIndex((other) => other.user === user) === at,
)

describe.each(users)(
  "what an agent of the $user user plants does not run outside of it",
  (person) => {
    it("neither as a program or in git's configuration, nor in a profile; the person's own settings go on to count", async () => {
      let requests = 0
      await using world = await makeWorld(
        () =>
          ++requests === 1
            ? use([
                { name: "Bash", input: { command: `node ${join(world.directory, "plant.mjs")}` } },
              ])
            : say("Status: PARTIAL"),
        { person, policy: "repositories: ssh://git@127.0.0.1/\n" },
      )
      const home = world.env.HOME ?? ""
      const at = (name: string): string => join(world.directory, name)
      const places = { home, tree: world.projectOf("shop") }
      const plants = Object.entries(plantsOf(world, at("loot"))).map(([path, text]) => {
        const [place = "home", ...rest] = path.split("/")
        return [join(place === "home" ? places.home : places.tree, ...rest), text] as const
      })
      world.write(
        at("plant.mjs"),
        `import { mkdirSync, utimesSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"
for (const [path, text] of ${JSON.stringify(plants)}) {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text, { mode: 0o755 })
}
// git looks at what is in a file whose time has changed.
utimesSync(${JSON.stringify(join(places.tree, "README.md"))}, 1, 1)
`,
      )
      // The person's own: a way to other machines, in a file that another one includes; and a
      // claude that comes and goes.
      world.write(join(home, ".gitconfig"), "[include]\n\tpath = own.gitconfig\n")
      world.write(join(home, "own.gitconfig"), `[core]\n\tsshCommand = '${at("persons-ssh")}'\n`)
      world.write(at("persons-ssh"), `#!/bin/sh\necho asked >> '${at("asked")}'\nexit 1\n`, 0o755)
      const [programs = ""] = (world.env.PATH ?? "").split(":")
      const claude = at("claude-bin/claude")
      mkdirSync(dirname(claude))
      symlinkSync(join(programs, "claude"), claude)
      world.env.PATH = [
        "./bin",
        "",
        join(home, "node_modules/.bin"),
        join(home, ".local/bin"),
        dirname(claude),
      ]
        .concat(
          (world.env.PATH ?? "")
            .split(":")
            .filter((entry) => entry !== programs && entry !== claudeDirectory),
        )
        .join(":")
      for (const entry of [".local/bin", "node_modules/.bin"])
        await world.run("mkdir", ["-p", join(home, entry)])

      const { call } = await world.connect()
      const inspect = async (name: string) =>
        JSON.stringify(await call("inspect_instance", { name }))
      const asked = (): number =>
        existsSync(at("asked")) ? readFileSync(at("asked"), "utf8").trim().split("\n").length : 0
      await call("spawn_instance", { project: "shop", name: "one" })
      // Its tree is looked at after each iteration.
      await eventually(() => requests > 3, "two iterations")
      expect(plants.filter(([path, text]) => readFileSync(path, "utf8") !== text)).toEqual([])
      await call("spawn_instance", { repository: "acme/tool", name: "two" })
      await eventually(
        async () => /Fetching|WorkTree/.test(await inspect("two")) && asked() > 0,
        "a fetch that fails",
      )

      rmSync(claude)
      await eventually(
        async () => (await inspect("one")).includes("is not on the PATH"),
        "it waits for claude",
      )
      const before = world.servePid()
      process.kill(before, "SIGKILL")
      await eventually(() => world.servePid() !== before, "a supervisor starts serve again")
      symlinkSync(join(programs, "claude"), claude)
      const askedBefore = asked()
      await eventually(async () => asked() > askedBefore, "a fetch that fails again")
      const then = requests
      await eventually(() => requests > then, "it goes on")

      expect(existsSync(at("loot")) ? readFileSync(at("loot"), "utf8") : "").toBe("")
      expect(readFileSync(`/proc/${world.servePid()}/environ`, "latin1")).toContain(
        "BLACKBOX5_REVIVED=1",
      )
    }, 300_000)
  },
)
