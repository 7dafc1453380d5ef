/**
 * Every tool, every principal, every face: the same verdict. The table below is the whole of who
 * may do what.
 */
import { Client } from "@modelcontextprotocol/sdk/client/index.js"
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { pathFieldsOf } from "../../src/api/openapi.ts"
import type { Tool } from "../../src/core/tool.ts"
import { cli } from "../../src/roles/cli.ts"
import { tools } from "../../tools/index.ts"
import { type Plane, startPlane } from "./plane.ts"

/**
 * People by their role, and agents by what they are to the one that the call is about. `-`: without
 * any credential. ok; 401: who are you; 403: you may not; 404: there is no such thing, as far as
 * you are told; 400: that makes no sense.
 */
const table = `
  tool                 -    viewer operator admin  itself parent grandparent sibling child stranger
  fleet_status         401  ok     ok       ok     ok     ok     ok          ok      ok    ok
  spawn_instance       401  403    ok       ok     ok     ok     ok          ok      ok    ok
  list_instances       401  ok     ok       ok     ok     ok     ok          ok      ok    404
  inspect_instance     401  ok     ok       ok     ok     ok     ok          403     403   404
  update_instance      401  403    ok       ok     403    ok     ok          403     403   404
  message_instances    401  403    ok       ok     ok     ok     ok          ok      ok    404
  read_messages        401  ok     ok       ok     ok     ok     ok          403     403   404
  wait_for_instances   401  ok     ok       ok     400    ok     ok          403     403   404
  pause_instances      401  403    ok       ok     403    ok     ok          403     403   404
  resume_instances     401  403    ok       ok     403    ok     ok          403     403   404
  stop_instances       401  403    ok       ok     403    ok     ok          403     403   404
  read_logs            401  ok     ok       ok     ok     ok     ok          403     403   404
  read_events          401  ok     ok       ok     ok     ok     ok          403     403   404
  create_token         401  403    403      ok     403    403    403         403     403   403
  list_tokens          401  403    403      ok     403    403    403         403     403   403
  revoke_token         401  403    403      ok     403    403    403         403     403   403
  audit                401  403    403      ok     403    403    403         403     403   403
  trees                401  403    403      ok     403    403    403         403     403   403
`
const [[, ...principals] = [], ...rows] = table
  .trim()
  .split("\n")
  .map((line) => line.trim().split(/\s+/))

/**
 * What each is asked to do; `dry` where it is expected to be allowed, so that the fleet stays as it
 * is for the next.
 */
const inputs: Record<string, (dry: object, count: number) => object> = {
  fleet_status: () => ({}),
  spawn_instance: (dry) => ({ project: "shop", goal: "More of the same.", ...dry }),
  list_instances: () => ({ names: ["target"] }),
  inspect_instance: () => ({ name: "target", sections: ["spec", "mail"] }),
  update_instance: (dry) => ({ name: "target", goal: "Something else.", ...dry }),
  message_instances: (dry) => ({
    to: ["target"],
    text: "Do something else.",
    waitSeconds: 0,
    ...dry,
  }),
  read_messages: () => ({ of: "target" }),
  wait_for_instances: () => ({ names: ["target"], timeoutSeconds: 0 }),
  pause_instances: (dry) => ({ names: ["target"], ...dry }),
  resume_instances: (dry) => ({ names: ["target"], ...dry }),
  stop_instances: (dry) => ({ names: ["target"], remove: true, ...dry }),
  read_logs: () => ({ name: "target" }),
  read_events: () => ({ name: "target" }),
  create_token: (_, count) => ({ name: `new-${count}`, role: "admin" }),
  list_tokens: () => ({}),
  revoke_token: (_, count) => ({ name: `old-${count}` }),
  audit: () => ({}),
  trees: () => ({}),
}

interface Verdict {
  readonly code: string
  /** What was said to who was refused. */
  readonly message: string
}
type Face = (tool: Tool, input: object, bearer: string | undefined) => Promise<Verdict>

let plane: Plane
let bearers: Record<string, string | undefined>
beforeAll(async () => {
  plane = await startPlane({
    ...{
      grandparent: [],
      parent: ["grandparent"],
      target: ["grandparent", "parent"],
      sibling: ["grandparent", "parent"],
    },
    ...{ child: ["grandparent", "parent", "target"], stranger: [] },
  })
  const people = ["viewer", "operator", "admin"] as const
  const tokens = await Promise.all(
    people.map(async (role) => [role, await plane.tokenOf(`the-${role}`, role)] as const),
  )
  const agents = ["parent", "grandparent", "sibling", "child", "stranger"].map(
    (name) => [name, plane.credentialOf(name)] as const,
  )
  bearers = {
    ...Object.fromEntries([...tokens, ...agents]),
    itself: plane.credentialOf("target"),
    "-": undefined,
  }
  // Each call of an allowed revoke_token ends one of them.
  for (let count = 0; count < 60; count++) await plane.tokenOf(`old-${count}`, "viewer")
})
afterAll(() => plane[Symbol.asyncDispose]())

const codes: Record<number, string> = { 200: "ok", 400: "400", 401: "401", 403: "403", 404: "404" }

const rest: Face = async (tool, input, bearer) => {
  const [method = "", route = ""] = tool.route.split(" ")
  const fields = { ...input } as Record<string, unknown> // an object of this file
  let path = route
  for (const name of pathFieldsOf(route)) {
    path = path.replace(`{${name}}`, String(fields[name]))
    delete fields[name]
  }
  const query = new URLSearchParams()
  for (const [field, value] of Object.entries(fields))
    query.set(field, JSON.stringify(value).replace(/^"|"$/g, ""))
  const { status, json } =
    method === "GET"
      ? await plane.rest(bearer, method, `${path}?${query}`)
      : await plane.rest(bearer, method, path, fields)
  return { code: codes[status] ?? String(status), message: json.error?.message ?? "" }
}

const mcp: Face = async (tool, input, bearer) => {
  const client = new Client({ name: "matrix", version: "1" })
  const headers = bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }
  const transport = new StreamableHTTPClientTransport(new URL(`${plane.url}/mcp`), {
    requestInit: { headers },
  })
  try {
    // Its sessionId may be undefined, which exact optional types refuse.
    await client.connect(transport as Parameters<Client["connect"]>[0])
  } catch (error) {
    return {
      code: String(error).includes("does not say who sent it") ? "401" : String(error),
      message: String(error),
    }
  }
  try {
    const { isError, content } = await client.callTool({ name: tool.name, arguments: { ...input } })
    return { code: isError === true ? "refused" : "ok", message: JSON.stringify(content) }
  } catch (error) {
    return { code: String(error), message: String(error) }
  } finally {
    await transport.terminateSession()
    await client.close()
  }
}

/** The command line itself, in this process: what it prints, and its exit code. */
const shell: Face = async (tool, input, bearer) => {
  const before = { ...process.env }
  let printed = ""
  const take = (text: unknown): true => {
    printed += String(text)
    return true
  }
  const spies = [vi.spyOn(process.stdout, "write"), vi.spyOn(process.stderr, "write")].map((spy) =>
    spy.mockImplementation(take),
  )
  Object.assign(process.env, plane.env, { BLACKBOX5_URL: plane.url, BLACKBOX5_TOKEN: bearer ?? "" })
  try {
    const code = await cli([tool.name.replaceAll("_", "-"), "--input", JSON.stringify(input)])
    // 3 is the answer of a wait that ended before what it waited for.
    return { code: code === 0 || code === 3 ? "ok" : "refused", message: printed }
  } finally {
    for (const spy of spies) spy.mockRestore()
    process.env = before
  }
}

/** What a refused call must leave as it is: every declaration, every inbox, every token. */
async function state(): Promise<string> {
  const read = async (path: string) => (await plane.rest(plane.local, "GET", path)).json
  const names = (await read("/v1/instances?limit=200")).instances
    .map(({ name }: { name: string }) => name)
    .toSorted()
  const specs = await Promise.all(
    names.map(async (name: string) => {
      const { spec, mail } = await read(`/v1/instances/${name}?sections=spec,mail`)
      return [name, spec, mail]
    }),
  )
  // Each answer has a fence of its own.
  return JSON.stringify([
    specs,
    await read("/v1/messages"),
    await read("/v1/tokens?all=true&limit=1000"),
  ]).replaceAll(/untrusted-\w+/g, "untrusted")
}

interface Audited {
  readonly who: string
  readonly verdict: string
  readonly count?: number
}
const auditsOf = async (tool: string): Promise<readonly Audited[]> =>
  (await plane.rest(plane.local, "GET", `/v1/audit?tool=${tool}&limit=1000`)).json.calls
const isDone = ({ verdict }: Audited): boolean => verdict === "done"
/** Equal ones are one record. */
const countOf = (calls: readonly Audited[]): number =>
  calls.reduce((sum, { count = 1 }) => sum + count, 0)

it("has a row for every tool, and a verdict for every principal", () => {
  expect(rows.map(([tool]) => tool).toSorted()).toEqual(tools.map(({ name }) => name).toSorted())
  expect(new Set(rows.map((row) => row.length))).toEqual(new Set([principals.length + 1]))
  expect(principals.toSorted()).toEqual(Object.keys(bearers).toSorted())
})

describe.each(rows)("%s", (...row) => {
  const [name = "", ...verdicts] = row
  const cells = principals.map((principal, at) => ({ principal, wanted: verdicts[at] ?? "" }))
  const tool = tools.find((one) => one.name === name)
  const input = inputs[name]
  if (!tool || !input) throw new Error(`no tool or no input for ${name}`)
  const onMcp = tool.toolset !== "admin"
  let count = 0

  it("is refused to whom it is not for, alike through every face, with nothing changed and all of it audited", async () => {
    const before = await state()
    const [audited, done] = [
      countOf(await auditsOf(name)),
      countOf((await auditsOf(name)).filter(isDone)),
    ]
    let expected = 0
    for (const { principal, wanted } of cells) {
      if (wanted === "ok") continue
      const bearer = bearers[principal]
      const first = await rest(tool, input({}, count++), bearer)
      expect({ principal, code: first.code }).toEqual({ principal, code: wanted })
      expect(first.message).not.toBe("")
      const others = [
        await shell(tool, input({}, count++), bearer),
        ...(onMcp ? [await mcp(tool, input({}, count++), bearer)] : []),
      ]
      for (const { code, message } of others) {
        expect({ principal, code }).toEqual({
          principal,
          code: expect.stringMatching(/^(refused|401)$/),
        })
        // Who says nothing and who says an empty word are told so in words of their own.
        if (wanted !== "401") expect(message).toContain(first.message)
        else expect(message).toMatch(/does not say who sent it|does not know that token/)
      }
      if (wanted !== "401" && !tool.hints.readOnlyHint) expected += 1 + others.length
    }
    expect(await state()).toBe(before)
    const calls = await auditsOf(name)
    expect(countOf(calls) - audited).toBe(expected)
    expect(countOf(calls.filter(isDone))).toBe(done)
  })

  it("is done for whom it is for, through every face", async () => {
    for (const { principal, wanted } of cells) {
      if (wanted !== "ok") continue
      const faces = { rest, shell, ...(onMcp && { mcp }) }
      for (const [face, call] of Object.entries(faces)) {
        const { code, message } = await call(
          tool,
          input({ dryRun: true }, count++),
          bearers[principal],
        )
        expect({ principal, face, code, ...(code !== "ok" && { message }) }).toEqual({
          principal,
          face,
          code: "ok",
        })
      }
    }
  })

  it("is no tool of MCP when it administers, for nobody", async () => {
    if (onMcp) return void expect(tool.verb).not.toBe("administer")
    for (const principal of ["viewer", "admin", "parent"])
      expect((await mcp(tool, input({}, 99), bearers[principal])).message).toMatch(/Unknown tool/)
  })
})
