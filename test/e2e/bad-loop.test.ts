import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { z } from "zod"
import { makeCodeRoot } from "./code-root.ts"
import { endlessWork, look, mcpText, reaches } from "./every-face.ts"
import { removableClaude } from "./removable-claude.ts"
import { eventually, type McpClient, makeWorld, processesOf, type World } from "./world.ts"

describe("what goes wrong only when a loop is started", () => {
  const claude = removableClaude()
  let world: World
  let mcp: McpClient
  let script: string
  beforeAll(async () => {
    world = await makeWorld(endlessWork, { env: { PATH: claude.PATH }, projects: ["shop"] })
    script = join(world.codeRoot, "2-engine/.autonomous/shell/ralf-loop.sh")
    world.policy(`loops:\n  mine: [${join(world.directory, "mine.sh")}, "{project}"]\n`)
    writeFileSync(join(world.directory, "mine.sh"), `#!/bin/sh\nexec ${script} "$1"\n`, {
      mode: 0o755,
    })
    mcp = await world.connect()
  })
  afterAll(() => world[Symbol.asyncDispose]())

  let count = 0
  const remove = async (name: string): Promise<void> => {
    await mcp.call("stop_instances", { names: [name], remove: true })
    await eventually(
      async () => !JSON.stringify(await mcp.call("list_instances")).includes(`"${name}"`),
      "it is removed",
    )
  }
  const aside = (path: () => string) => (): (() => void) => {
    const other = join(world.directory, "aside")
    renameSync(path(), other)
    return () => renameSync(other, path())
  }
  it.each<[string, string, () => () => void, RegExp]>([
    [
      "the loop script is not executable any more",
      "ralf",
      () => {
        chmodSync(script, 0o644)
        return () => chmodSync(script, 0o755)
      },
      /ralf-loop\.sh is not executable.*chmod \+x/,
    ],
    [
      "the project is gone",
      "ralf",
      aside(() => world.projectOf("shop")),
      /The project shop is no longer in .*\. Put its directory back/,
    ],
    [
      "the code root was deleted and is checked out again",
      "ralf",
      () => {
        rmSync(world.codeRoot, { recursive: true })
        return () => {
          mkdirSync(world.codeRoot)
          makeCodeRoot(world.codeRoot, ["shop"])
        }
      },
      /The code root .* does not exist.*--code-root/,
    ],
    [
      "the policy's loop is gone",
      "mine",
      aside(() => join(world.directory, "mine.sh")),
      /mine\.sh is not there.*policy/,
    ],
    [
      "the policy has the loop no more",
      "mine",
      () => {
        const path = join(world.directory, "config/policy.yaml")
        const text = readFileSync(path, "utf8")
        world.policy("{}\n")
        return () => world.policy(text)
      },
      /The policy has no loop mine.*add it to the policy file/,
    ],
  ])(
    "is a crash loop that says why, and goes on when it is mended and resumed: %s",
    async (_, loop, spoil, why) => {
      const name = `one-${++count}`
      const refused = async () =>
        (await mcpText(mcp, "spawn_instance", { project: "shop", loop, dryRun: true })).isError
      await mcp.call("spawn_instance", { project: "shop", name, loop })
      await reaches(mcp, name, "Running")
      await mcp.call("pause_instances", { names: [name] })
      await eventually(
        async () => (await look(mcp, name)).why.includes("are frozen"),
        "it stands still",
      )
      await mcp.call("stop_instances", { names: [name] })
      await reaches(mcp, name, "Stopped")
      const mend = spoil()
      try {
        await eventually(refused, "the obstacle is seen")
        await mcp.call("resume_instances", { names: [name] })
        const crashed = await reaches(mcp, name, "CrashLoop")
        expect(crashed.why).toMatch(/^It(s loop is missing| could not be started)/)
        expect(crashed.untrusted).toMatch(why)
        expect(crashed.fix).toContain(`resume_instances {"names":["${name}"]}`)
        expect(await mcp.call("list_instances", { phases: ["CrashLoop"] })).toMatchObject({
          total: 1,
          instances: [{ name }],
        })
      } finally {
        mend()
      }
      await eventually(async () => !(await refused()), "the obstacle is gone")
      await mcp.call("resume_instances", { names: [name] })
      const { why: well } = await reaches(mcp, name, "Running")
      expect(well).toMatch(/iteration|Has not run claude yet/)
      await remove(name)
    },
    120_000,
  )

  const missing = /`claude` is not on the PATH: \/.*waits for it and goes on by itself\.\n/
  const iterationsOf = async (name: string) =>
    z
      .looseObject({
        usage: z.looseObject({ iterations: z.int() }),
        run: z.looseObject({ restarts: z.int() }),
      })
      .parse(await mcp.call("inspect_instance", { name }))

  it("claude, removed during a pause, is waited for: its loop goes on when it is there again, and nothing counts", async () => {
    const name = "patient"
    await mcp.call("spawn_instance", { project: "shop", name })
    await reaches(mcp, name, "Running")
    await mcp.call("pause_instances", { names: [name] })
    await eventually(
      async () => (await look(mcp, name)).why.includes("are frozen"),
      "it stands still",
    )
    const [before] = processesOf(world.directory).filter(({ command }) =>
      /claude.*--settings/.test(command),
    )
    claude.remove()
    await mcp.call("resume_instances", { names: [name] })
    if (before) process.kill(before.pid, "SIGKILL") // so that the loop calls claude again
    const held = await reaches(mcp, name, "Held")
    expect(held.why).toMatch(/^The program claude is missing/)
    expect(held.untrusted).toMatch(missing)
    expect(held.fix).toMatch(/Install claude again/)
    const { usage, run } = await iterationsOf(name)
    claude.bring()
    const requests = world.model.requests.length
    await eventually(() => world.model.requests.length > requests, "claude at work again")
    expect(await iterationsOf(name)).toMatchObject({
      usage: { iterations: usage.iterations },
      run: { restarts: run.restarts },
    })
    await remove(name)
  }, 120_000)

  it("claude, missing when a loop is started, is waited for in the same way", async () => {
    const name = "early"
    await mcp.call("spawn_instance", { project: "shop", name })
    await reaches(mcp, name, "Running")
    await mcp.call("stop_instances", { names: [name] })
    await reaches(mcp, name, "Stopped")
    const { usage } = await iterationsOf(name)
    claude.remove()
    try {
      await mcp.call("resume_instances", { names: [name] })
      expect((await reaches(mcp, name, "Held")).untrusted).toMatch(missing)
      expect(await iterationsOf(name)).toMatchObject({
        usage: { iterations: usage.iterations },
        run: { restarts: 0 },
      })
    } finally {
      claude.bring()
    }
    await reaches(mcp, name, "Running")
    expect(await iterationsOf(name)).toMatchObject({
      usage: { iterations: usage.iterations },
      run: { restarts: 0 },
    })
    await remove(name)
  }, 120_000)
})

describe("a loop script that exits at once", () => {
  it("is started again ever later, is called a crash loop with its exit code, stops, and runs when it is mended", async () => {
    const claude = removableClaude()
    await using world = await makeWorld(endlessWork, { env: { PATH: claude.PATH } })
    const script = join(world.codeRoot, "2-engine/.autonomous/shell/ralf-loop.sh")
    const starts = join(world.directory, "starts")
    const good = readFileSync(script, "utf8")
    writeFileSync(
      script,
      `#!/usr/bin/env bash\ndate +%s%3N >> ${starts}\necho "no key for the shop" >&2\nexit 3\n`,
    )
    const mcp = await world.connect()
    await mcp.call("spawn_instance", { project: "shop", name: "hasty" })
    const crashed = await reaches(mcp, "hasty", "CrashLoop")
    expect(crashed.why).toMatch(/ended without running claude \(exit code 3\).* started 4 times/)
    expect(crashed.fix).toContain("read_logs")
    expect(JSON.stringify(await mcp.call("read_logs", { name: "hasty" }))).toContain(
      "no key for the shop",
    )
    const moments = readFileSync(starts, "utf8").trim().split("\n").map(Number)
    expect(moments.length).toBeGreaterThanOrEqual(4)
    // 1 s, 2 s, 4 s: bounds from below, which no slow machine can break.
    for (const [index, moment] of moments.slice(1).entries())
      expect(moment - (moments[index] ?? 0)).toBeGreaterThanOrEqual(1000 * 2 ** index)

    await mcp.call("stop_instances", { names: ["hasty"] })
    await reaches(mcp, "hasty", "Stopped")
    expect(
      processesOf(world.directory).filter(({ command }) =>
        /ralf-loop|main\.js agent/.test(command),
      ),
    ).toEqual([])
    const stopped = readFileSync(starts, "utf8")

    writeFileSync(script, good)
    await mcp.call("resume_instances", { names: ["hasty"] })
    await reaches(mcp, "hasty", "Running")
    expect(readFileSync(starts, "utf8")).toBe(stopped)
    expect(await mcp.call("inspect_instance", { name: "hasty" })).toMatchObject({
      run: { restarts: 0 },
    })
  }, 120_000)
})
