import { mkdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { z } from "zod"
import { say } from "../model/model.ts"
import { makeCodeRoot } from "./code-root.ts"
import { type McpClient, makeWorld, type Result, type World } from "./world.ts"

vi.setConfig({ testTimeout: 120_000 })

/**
 * Two checkouts of one user, and somebody elsewhere; and what each face takes for "not given". The
 * loops only sleep.
 */

const urlSchema = z.object({ url: z.string() })
const faultSchema = z.object({
  error: z.object({ code: z.string(), message: z.string(), next: z.string() }),
})

let world: World
let other: string
let here: McpClient
let there: McpClient
let bearer: string
beforeAll(async () => {
  world = await makeWorld(() => say("unused"), { policy: "loops:\n  idle: [sleep, '1000']\n" })
  other = join(world.directory, "other code")
  mkdirSync(other)
  makeCodeRoot(other, ["shop", "Mein Projekt"])
  here = await world.connect(world.codeRoot)
  there = await world.connect(other)
  await here.call("spawn_instance", { project: "shop", name: "here", loop: "idle" })
  await there.call("spawn_instance", { project: "shop", name: "there", loop: "idle" })
  const made = await world.cli("create-token", "--name", "ann", "--role", "operator", "--json")
  bearer = z.object({ token: z.string() }).parse(JSON.parse(made.stdout)).token
}, 60_000)
afterAll(() => world[Symbol.asyncDispose]())

/** As ann, from anywhere. */
async function rest(
  method: string,
  path: string,
  body?: unknown,
): Promise<{ status: number; json: unknown }> {
  const { url } = urlSchema.parse(JSON.parse(readFileSync(join(world.state, "serve.json"), "utf8")))
  const response = await fetch(url + path, {
    method,
    headers: { authorization: `Bearer ${bearer}`, "content-type": "application/json" },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  })
  return { status: response.status, json: await response.json() }
}
const rows = z.array(z.looseObject({ name: z.string(), codeRoot: z.string().optional() }))
const namesOf = (result: Result): string[] =>
  rows
    .parse(result.instances)
    .map(({ name }) => name)
    .toSorted()

describe("a project that two checkouts have", () => {
  it("is that of the client's checkout", async () => {
    expect(namesOf(await here.call("list_instances", { project: "shop" }))).toEqual(["here"])
    expect(namesOf(await there.call("list_instances", { project: "shop" }))).toEqual(["there"])
    expect(namesOf(await there.call("pause_instances", { project: "shop" }))).toEqual(["there"])
    const all = rows.parse((await here.call("list_instances", {})).instances)
    expect(new Map(all.map(({ name, codeRoot }) => [name, codeRoot]))).toEqual(
      new Map([
        ["here", world.codeRoot],
        ["there", other],
      ]),
    )
    expect(
      rows.parse((await here.call("list_instances", { names: ["here"] })).instances),
    ).toHaveLength(1)
    expect(await world.cli("resume-instances", "there")).toMatchObject({ code: 0 })
  })

  it("is said by whoever is in neither", async () => {
    const refused = await rest("POST", "/v1/instances", {
      project: "shop",
      loop: "idle",
      dryRun: true,
    })
    expect(refused.status).toBe(409)
    const { message, next } = faultSchema.parse(refused.json).error
    expect(message).toContain(other)
    const [, named = ""] = /codeRoot, for example "([^"]+)"/.exec(next) ?? []
    const again = { project: "shop", loop: "idle", dryRun: true, codeRoot: named }
    expect(await rest("POST", "/v1/instances", again)).toMatchObject({
      status: 200,
      json: { created: false },
    })
    const nowhere = { ...again, codeRoot: "/etc" }
    expect(await rest("POST", "/v1/instances", nowhere)).toMatchObject({ status: 404 })
    const paused = await rest("POST", "/v1/instances:pause", { project: "shop" })
    expect(paused).toMatchObject({
      status: 409,
      json: { error: { message: expect.stringContaining("Nothing was changed") } },
    })
  })

  it("has a directory of any name behind its own", async () => {
    const status = await there.call("fleet_status", {})
    expect(status.projects).toContainEqual({ name: "mein-projekt", instances: 0 })
    const made = await there.call("spawn_instance", {
      project: "mein-projekt",
      loop: "idle",
      dryRun: true,
    })
    const path = join(other, "5-project-memory/Mein Projekt")
    expect(made).toMatchObject({
      workspace: { untrusted: { path: expect.stringContaining(path) } },
    })
  })
})

describe("what is not given", () => {
  const nulls = {
    names: null,
    selector: null,
    phases: null,
    parent: null,
    cursor: null,
    limit: null,
    detail: null,
  }

  it("may be null in a call over MCP, over REST and on the command line", async () => {
    expect((await here.call("list_instances", { ...nulls, project: null })).total).toBe(2)
    const spawned = await here.call("spawn_instance", {
      project: "shop",
      goal: null,
      budget: { usd: null },
      dryRun: true,
      loop: "idle",
    })
    expect(spawned).toMatchObject({ created: false })
    const body = { project: null, names: ["here"], selector: null, all: null, dryRun: true }
    expect(await rest("POST", "/v1/instances:pause", body)).toMatchObject({
      status: 200,
      json: { count: 1 },
    })
    const listed = await world.cli("list-instances", "--json", "--input", JSON.stringify(nulls))
    expect(JSON.parse(listed.stdout)).toMatchObject({ total: 2 })
    // What must be given is no less missing.
    const missing = await rest("POST", "/v1/messages", { to: ["here"], text: null })
    expect(missing).toMatchObject({
      status: 400,
      json: { error: { message: expect.stringContaining("text") } },
    })
  })

  it("is no flag: an empty text is not true, but on the command line a bare flag is", async () => {
    expect(await rest("GET", "/v1/instances?detail=")).toMatchObject({ status: 400 })
    expect(await rest("GET", "/v1/instances?detail=true")).toMatchObject({ status: 200 })
    expect(
      await rest("POST", "/v1/instances:pause", { names: ["here"], dryRun: "" }),
    ).toMatchObject({ status: 400 })
    expect(await world.cli("pause-instances", "here", "--dry-run")).toMatchObject({ code: 0 })
  })
})

describe("half of a character", () => {
  it("does not get in, nor out", async () => {
    await here.call("message_instances", { to: ["@operators"], text: "cut \ud83d" })
    const { messages } = await there.call("read_messages", {})
    const texts = z.array(z.object({ untrusted: z.string() })).parse(messages)
    expect(texts.map(({ untrusted }) => untrusted).join()).toContain("cut \ufffd")
  })
})
