/**
 * The REST face, by its own OpenAPI document, over the real control plane: no 500, no hang, no
 * change on a refused call.
 */
import { connect } from "node:net"
import fc from "fast-check"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { z } from "zod"
import { tools } from "../../tools/index.ts"
import { broken, junk, type Schema, valid } from "../fuzz-values.ts"
import { type Plane, startPlane } from "./plane.ts"

/** Fixed, so that a failure is everybody's. */
const runs = { seed: 7, numRuns: 40 }
/** No call of these waits longer than a second; a busy machine may. */
const hangMs = 30_000

const objectSchema = z.record(z.string(), z.unknown())
const parameterSchema = z.object({
  name: z.string(),
  in: z.enum(["path", "query"]),
  required: z.boolean(),
  schema: objectSchema.optional(),
  content: z.object({ "application/json": z.object({ schema: objectSchema }) }).optional(),
})
const operationSchema = z.object({
  operationId: z.string(),
  parameters: z.array(parameterSchema),
  requestBody: z
    .object({ content: z.object({ "application/json": z.object({ schema: objectSchema }) }) })
    .optional(),
})
const documentSchema = z.object({
  paths: z.record(z.string(), z.record(z.string(), operationSchema)),
})

let plane: Plane
let document: z.output<typeof documentSchema>
beforeAll(async () => {
  plane = await startPlane({ top: [], mid: ["top"], low: ["top", "mid"], other: [] })
  document = documentSchema.parse((await plane.rest(plane.local, "GET", "/openapi.json")).json)
})
afterAll(() => plane[Symbol.asyncDispose]())

const name = fc.constantFrom("top", "mid", "low", "other", "gone")
const names = fc.array(name, { minLength: 1, maxLength: 3 })
const known = {
  ...{
    name,
    names,
    to: names,
    of: name,
    waitSeconds: fc.constant(0),
    timeoutSeconds: fc.constant(0),
  },
  project: fc.constantFrom("shop", "nowhere"),
  // Who is removed is gone for the cases after it.
  remove: fc.constant(false),
}

/** Declarations, tokens and the operators' inbox, without what only the clock changes. */
async function state(): Promise<string> {
  const { instances } = (await plane.rest(plane.local, "GET", "/v1/instances?limit=200")).json
  const names = instances.map(({ name: one }: { name: string }) => one).toSorted()
  const seeded = await Promise.all(
    ["top", "mid", "low", "other"].map(async (one) => {
      const { spec, mail } = (
        await plane.rest(plane.local, "GET", `/v1/instances/${one}?sections=spec,mail`)
      ).json
      return [spec, mail]
    }),
  )
  const tokens = (await plane.rest(plane.local, "GET", "/v1/tokens?all=true&limit=1000")).json
  return JSON.stringify([names, seeded, tokens]).replaceAll(/untrusted-\w+/g, "untrusted")
}

interface Call {
  readonly path: string
  readonly body?: unknown
}
const textOf = (value: unknown): string =>
  typeof value === "string" ? value : (JSON.stringify(value) ?? "")

/**
 * Calls of one operation as its document describes them; `wrong` has one thing in it that it does
 * not.
 */
function callsOf(
  path: string,
  { parameters, requestBody }: z.output<typeof operationSchema>,
  wrong: boolean,
): fc.Arbitrary<Call> {
  const value = (one: z.output<typeof parameterSchema>): fc.Arbitrary<unknown> => {
    const schema = one.schema ?? one.content?.["application/json"].schema ?? {}
    const good = valid(schema, known, one.name)
    return wrong && !requestBody ? fc.oneof(good, junk) : good
  }
  const inPath = parameters.filter((one) => one.in === "path")
  const inQuery = parameters.filter((one) => one.in === "query")
  // The document says that it is one.
  const body = requestBody?.content["application/json"].schema as Schema | undefined
  const fast = { waitSeconds: 0, timeoutSeconds: 0 }
  return fc
    .record({
      path: fc.tuple(...inPath.map(value)),
      query: fc.subarray(inQuery, { maxLength: Math.min(4, inQuery.length) }).chain((some) => {
        const all = [...new Set([...inQuery.filter(({ required }) => required), ...some])]
        return fc.tuple(
          ...all.map((one) => value(one).map((text) => [one.name, textOf(text)] as const)),
        )
      }),
      extra: wrong
        ? fc.option(fc.tuple(fc.string(), fc.string()), { nil: undefined, freq: 4 })
        : fc.constant(undefined),
      body:
        body === undefined
          ? fc.constant(undefined)
          : wrong
            ? broken(body, known)
            : valid(body, known),
    })
    .map(({ path: values, query, extra, body: sent }) => {
      let filled = path
      for (const [at, one] of inPath.entries())
        filled = filled.replace(
          `{${one.name}}`,
          encodeURIComponent(textOf(values[at]).toWellFormed().slice(0, 300)).replaceAll(
            ".",
            "%2E",
          ),
        )
      const search = new URLSearchParams()
      for (const [key, text] of [...query, ...(extra ? [extra] : [])])
        search.append(key, text.slice(0, 2000))
      const declared = Object.keys(body?.properties ?? {})
      const waits = Object.fromEntries(
        Object.entries(fast).filter(([key]) => declared.includes(key)),
      )
      const whole =
        typeof sent === "object" && sent !== null && !Array.isArray(sent)
          ? { ...waits, ...sent }
          : sent
      return { path: `${filled}?${search}`, ...(body !== undefined && { body: whole ?? null }) }
    })
}

const errorSchema = z.strictObject({
  error: z.strictObject({ code: z.string(), message: z.string().min(1), next: z.string().min(1) }),
})

describe.each(tools.map((tool) => [tool.name, tool] as const))("%s", (operation, tool) => {
  const [method = "", path = ""] = tool.route.split(" ")
  it.each([
    ["what its document admits", false],
    ["what it does not", true],
  ])(
    "answers %s, changes nothing that it refused",
    async (_, wrong) => {
      const described = document.paths[path]?.[method.toLowerCase()]
      expect(described?.operationId).toBe(operation)
      if (!described) return
      const bearers = [plane.local, plane.credentialOf("top"), plane.credentialOf("mid")]
      await fc.assert(
        fc.asyncProperty(callsOf(path, described, wrong), fc.nat(5), async (call, who) => {
          const before = await state()
          const headers = {
            authorization: `Bearer ${bearers[who] ?? plane.local}`,
            "content-type": "application/json",
          }
          const response = await fetch(`${plane.url}${call.path}`, {
            method,
            headers,
            ...("body" in call && { body: JSON.stringify(call.body) }),
            signal: AbortSignal.timeout(hangMs),
          })
          const text = await response.text()
          const about = `${response.status} ${text.slice(0, 500)}`
          expect(about).toMatch(/^[234]\d\d /)
          if (response.status === 200)
            return void expect(() => tool.output.parse(JSON.parse(text))).not.toThrow()
          expect(errorSchema.safeParse(JSON.parse(text)).success, about).toBe(true)
          expect(await state()).toBe(before)
        }),
        runs,
      )
    },
    180_000,
  )
})

it("answers what is hardly HTTP, and goes on", async () => {
  const { port } = new URL(plane.url)
  const head = `Host: 127.0.0.1\r\nAuthorization: Bearer ${plane.local}\r\n`
  const json = "Content-Type: application/json\r\n"
  const said = await Promise.all(
    [
      `GET /v1/instances/%E0%A4%A HTTP/1.1\r\n${head}\r\n`,
      `GET /v1/instances/%00 HTTP/1.1\r\n${head}\r\n`,
      `GET //v1//fleet?a[b]=c&a[b]=d&&&=%zz HTTP/1.1\r\n${head}\r\n`,
      `GET /v1/fleet?since=${"x".repeat(9000)} HTTP/1.1\r\n${head}\r\n`,
      `GET /${"a".repeat(20_000)} HTTP/1.1\r\n${head}\r\n`,
      `POST /v1/messages HTTP/1.1\r\n${head}${json}Content-Length: 5\r\n\r\n{"to"`,
      `POST /v1/messages HTTP/1.1\r\n${head}${json}Content-Length: 3\r\n\r\n\xff\xfe{`,
      `POST /v1/messages HTTP/1.1\r\n${head}${json}Transfer-Encoding: chunked\r\n\r\nzz\r\n`,
      `POST /v1/messages HTTP/1.1\r\n${head}${json}Content-Length: 99999999999\r\n\r\n{}`,
      `POST /v1/messages HTTP/1.1\r\n${head}${json}Content-Length: ${"[".repeat(100_000).length}\r\n\r\n${"[".repeat(100_000)}`,
      `TRACE /v1/fleet HTTP/1.1\r\n${head}\r\n`,
      `GET http://evil.example/v1/fleet HTTP/1.1\r\n${head}\r\n`,
      "GET /v1/fleet HTTP/1.1\r\n\r\n",
      "\u0000\u0001\u0002\r\n\r\n",
    ].map(
      (text) =>
        new Promise<string>((resolve) => {
          const socket = connect(Number(port), "127.0.0.1")
          let answer = ""
          socket.on("data", (bytes) => {
            answer += bytes
            socket.end()
          })
          socket.on("error", () => {})
          socket.on("close", () => resolve(`${text.slice(0, 40)} -> ${answer.split("\r\n")[0]}`))
          socket.write(text, "latin1")
        }),
    ),
  )
  expect(said.filter((line) => !/-> HTTP\/1\.1 [24]\d\d/.test(line))).toEqual([])
  expect((await plane.rest(plane.local, "GET", "/v1/fleet")).status).toBe(200)
})
