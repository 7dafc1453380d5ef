import { mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { createCodeRoots } from "../../src/adapters/local/code-roots.ts"
import type { Principal } from "../../src/core/principal.ts"
import { noProgress } from "../../src/core/tool.ts"
import { expectFault } from "../contract/expect-fault.ts"
import { agent, makeFleet, operator, type Result } from "./fleet.ts"

/** Two checkouts with a project of one name: whose is meant, and which one is shown. */

const [here, there] = ["/code/here", "/code/there"]
function twoCheckouts() {
  const fleet = makeFleet()
  fleet.world.roots = new Map([
    [here, ["shop", "blog"]],
    [there, ["shop"]],
  ])
  fleet.world.projects = ["blog", "shop"]
  const mine = fleet.running("mine", { codeRoot: here })
  fleet.running("yours", { codeRoot: there })
  fleet.running("blog-1", { project: "blog", codeRoot: here })
  fleet.running("cloned", { codeRoot: there, repository: "acme/shop" })
  const from = (codeRoot: string | undefined, who: Principal = operator) => {
    const signal = new AbortController().signal
    const call = { signal, progress: noProgress, ...(codeRoot !== undefined && { codeRoot }) }
    return (tool: string, input: object): Promise<Result> => fleet.asCaller(who)(tool, input, call)
  }
  return { fleet, from, mine }
}
const namesOf = ({ instances }: Result): string[] =>
  instances.map(({ name }: { name: string }) => name).toSorted()

describe("a project that two checkouts have", () => {
  it("is the caller's in a list, a pause, a resume, a stop and a message", async () => {
    const { fleet, from } = twoCheckouts()
    expect(namesOf(await from(here)("list_instances", { project: "shop" }))).toEqual([
      "cloned",
      "mine",
    ])
    expect(namesOf(await from(there)("list_instances", { project: "shop" }))).toEqual([
      "cloned",
      "yours",
    ])
    const states = (): string[] => ["mine", "yours"].map((name) => fleet.specOf(name)?.state ?? "")
    await from(here)("pause_instances", { project: "shop" })
    expect(states()).toEqual(["Paused", "Running"])
    await from(there)("resume_instances", { project: "shop" })
    expect(states()).toEqual(["Paused", "Running"])
    const sent = await from(there)("message_instances", { project: "shop", text: "Hello." })
    expect(sent.receipts.map(({ to }: { to: string }) => to).toSorted()).toEqual([
      "cloned",
      "yours",
    ])
    await from(here)("stop_instances", { project: "shop" })
    expect(states()).toEqual(["Stopped", "Running"])
  })

  it("is that of an agent's own checkout, whatever its client says", async () => {
    const { from, fleet, mine } = twoCheckouts()
    fleet.add("child", { codeRoot: here, lineage: [mine.uid] })
    expect(
      namesOf(await from(there, agent(mine))("list_instances", { project: "shop" })),
    ).not.toContain("yours")
  })

  it("is everybody's to look at from elsewhere, with the checkout beside each, and is not changed", async () => {
    const { fleet, from } = twoCheckouts()
    const { instances } = await from(undefined)("list_instances", { project: "shop" })
    const where = instances.map(({ name, codeRoot }: Result) => [name, codeRoot])
    expect(new Map(where)).toEqual(
      new Map([
        ["mine", here],
        ["yours", there],
        ["cloned", there],
      ]),
    )
    await expectFault(
      from(undefined)("pause_instances", { project: "shop" }),
      "Conflict",
      /\/code\/here, \/code\/there/,
    )
    expect(fleet.specOf("mine")?.state).toBe("Running")
    // A name says which one is meant.
    expect((await from(undefined)("pause_instances", { names: ["yours"] })).changed).toBe(1)
    // Who is in a checkout without such a project means the one that there is.
    fleet.world.roots.set("/code/other", ["mill"])
    expect((await from("/code/other")("pause_instances", { project: "blog" })).changed).toBe(1)
  })

  it("is counted for each checkout in fleet_status; one that is alone has none", async () => {
    const { from } = twoCheckouts()
    const { projects } = await from(undefined)("fleet_status", {})
    expect(projects).toEqual([
      { name: "blog", instances: 1 },
      { name: "shop", instances: 1 },
      { name: "shop", codeRoot: here, instances: 1 },
      { name: "shop", codeRoot: there, instances: 1 },
    ])
    expect((await from(here)("fleet_status", { project: "shop" })).projects).not.toContainEqual(
      expect.objectContaining({ codeRoot: there }),
    )
    const { instances } = await from(undefined)("list_instances", { project: "blog" })
    expect(instances[0]).not.toHaveProperty("codeRoot")
  })

  it("is spawned in the checkout that the call names", async () => {
    const { fleet, from } = twoCheckouts()
    const made = await from(undefined)("spawn_instance", { project: "shop", codeRoot: there })
    expect(fleet.specOf(made.name)?.codeRoot).toBe(there)
    await expectFault(
      from(here)("spawn_instance", { project: "shop", codeRoot: "/etc" }),
      "NotFound",
      /No code root \/etc/,
    )
    await expectFault(
      from(undefined, agent(fleet.byName.get("mine") as never))("spawn_instance", {
        codeRoot: there,
      }),
      "Forbidden",
      /its? parent's codeRoot/,
    )
  })
})

describe("the code roots that serve knows", () => {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), "bb5-roots-")))
  afterAll(() => rmSync(directory, { recursive: true }))
  const made = (path: string): string => {
    mkdirSync(join(directory, path), { recursive: true })
    return join(directory, path)
  }
  const [one, two] = [made("one"), made("two ü")]
  for (const root of ["one", "two ü"]) made(`${root}/5-project-memory/shop`)
  made("one/5-project-memory/Mein Projekt")
  const roots = createCodeRoots({
    ...{
      loops: () => ({}),
      claude: () => undefined,
      builtIn: [],
      stateDirectory: made("state"),
      first: one,
    },
  })
  roots.admit(two)

  it("are told in a conflict, in the words that solve it", () => {
    expect(() => roots.find("shop", undefined)).toThrow(/Several code roots have a project shop/)
    try {
      roots.find("shop", undefined)
    } catch (error) {
      expect(error).toMatchObject({
        code: "Conflict",
        next: expect.stringContaining(`with codeRoot, for example "${one}"`),
      })
    }
    expect(roots.find("shop", roots.named(two))).toBe(two)
    expect(roots.shared()).toEqual(new Map([["shop", [one, two]]]))
  })

  it("are named by any path that leads there, and by no other", () => {
    expect(roots.named(`${two}/`)).toBe(two)
    for (const path of ["/etc", "two ü", `${directory}/gone`, made("one/5-project-memory")])
      expect(() => roots.named(path)).toThrow(/No code root .* is known/)
  })

  it("find a project by the name that they list", () => {
    expect(roots.list(one)).toEqual(["mein-projekt", "shop"])
    const { directory: found } = roots.layoutOf({
      project: "mein-projekt",
      loop: "ralf",
      codeRoot: one,
    })
    expect(found).toBe(join(one, "5-project-memory/Mein Projekt"))
  })

  it("are no directory whose path git cannot carry", () => {
    const broken = made("line\nbreak")
    made("line\nbreak/5-project-memory/shop")
    expect(roots.admit(broken)).toBeUndefined()
    expect(() => roots.named(broken)).toThrow(/No code root/)
  })
})
