/**
 * An agent that floods: its supervisor's hook port, and the link itself with its supervisor's real
 * credential.
 */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { expect, it } from "vitest"
import { WebSocket } from "ws"
import { z } from "zod"
import { say, use } from "../model/model.ts"
import { startPlane } from "./plane.ts"
import { eventually, makeWorld } from "./world.ts"

const eventsSchema = z.object({
  events: z.array(
    z.object({
      kind: z.string(),
      name: z.string().optional(),
      message: z.string().optional(),
      untrusted: z.string().optional(),
    }),
  ),
})
const acknowledgement = z.object({ type: z.literal("ack"), seq: z.int() })

/**
 * One supervisor's link. Its events are sent as others are acknowledged, `window` of them under
 * way.
 */
async function linkTo(url: string, credential: string) {
  const socket = new WebSocket(`${url.replace("http", "ws")}/v1/link`, {
    headers: { authorization: `Bearer ${credential}` },
  })
  const refused = new Promise<string>((resolve) =>
    socket.once("unexpected-response", (_, { statusCode }) => resolve(String(statusCode))),
  )
  const outcome = await Promise.race([
    refused,
    new Promise<"open">((resolve) => socket.once("open", () => resolve("open"))),
  ])
  let acknowledged = 0
  let onAck: ((count: number) => void) | undefined
  socket.on("message", (data) => {
    if (acknowledgement.safeParse(JSON.parse(String(data))).success) onAck?.(++acknowledged)
  })
  socket.on("error", () => {})
  const send = (seq: number, message: string): void => {
    const event = { id: `e${seq}`, kind: "IterationStarted", message, atMs: Date.now() }
    socket.send(JSON.stringify({ type: "event", seq, event }))
  }
  return {
    outcome,
    count: () => acknowledged,
    flood(total: number, window: number): void {
      let sent = 0
      const more = (): void => {
        while (sent < total && sent - acknowledged < window)
          send(++sent, `Event ${sent} of a flood.`)
      }
      onAck = more
      more()
    },
    tell: (message: string) =>
      new Promise<void>((resolve) => {
        onAck = () => resolve()
        send(1, message)
      }),
    close: () => socket.terminate(),
  }
}

it("floods its own link: it is read slowly, acknowledged, and costs others nothing", async () => {
  await using plane = await startPlane({ fox: [], hen: [] })
  const fox = await linkTo(plane.url, plane.credentialOf("fox"))
  fox.flood(30_000, 500)
  await eventually(async () => fox.count() > 7000, "most of what it may send at once")
  const hen = await linkTo(plane.url, plane.credentialOf("hen"))
  await hen.tell("The hen works.")
  // Its socket is read at two hundred frames a second from there on.
  expect(fox.count()).toBeLessThan(30_000)
  const eventsOf = async (name: string) =>
    eventsSchema.parse(
      (await plane.rest(plane.local, "GET", `/v1/events?limit=500&name=${name}`)).json,
    ).events
  expect((await eventsOf("hen")).map(({ untrusted }) => untrusted)).toEqual([
    expect.stringContaining("The hen works."),
  ])
  const warnings = (await eventsOf("fox")).filter(({ kind }) => kind === "Warning")
  expect(warnings.map(({ untrusted }) => untrusted)).toEqual([
    expect.stringContaining("more than 600 events in 10 minutes"),
  ])
  fox.close()
  hen.close()

  const outcomes: string[] = []
  for (let count = 0; count < 300; count++) {
    const link = await linkTo(plane.url, plane.credentialOf("fox"))
    outcomes.push(link.outcome)
    link.close()
  }
  expect(new Set(outcomes)).toEqual(new Set(["open", "429"]))
  const again = await linkTo(plane.url, plane.credentialOf("hen"))
  expect(again.outcome).toBe("open")
  again.close()
}, 120_000)

it("posts thousands of times to its hook port: audit and timeline have all that others did", async () => {
  await using world = await makeWorld(({ text }) =>
    /fox/.test(text)
      ? use([{ name: "Bash", input: { command: "sleep 600", timeout: 600_000 } }])
      : say("Status: PARTIAL"),
  )
  const person = await world.connect()
  const { uid } = z
    .looseObject({ uid: z.string() })
    .parse(await person.call("spawn_instance", { project: "shop", name: "fox", goal: "The fox." }))
  const phaseOf = async () => (await person.call("inspect_instance", { name: "fox" })).phase
  await eventually(async () => (await phaseOf()) === "Running", "the fox works")
  await eventually(
    async () =>
      JSON.stringify(await person.call("inspect_instance", { name: "fox" })).includes("sleep 600"),
    "its shell",
  )
  for (let count = 0; count < 5; count++)
    await person.call("message_instances", {
      to: ["fox"],
      text: `Message ${count}.`,
      waitSeconds: 0,
    })
  const supervisor = z.object({ port: z.int(), token: z.string() })
  const { port, token } = supervisor.parse(
    JSON.parse(readFileSync(join(world.runOf(uid), "status/supervisor.json"), "utf8")),
  )
  const post = async (count: number): Promise<void> => {
    const body = {
      hook_event_name: "StopFailure",
      error: "rate_limit",
      last_assistant_message: `Limit ${count} of many.`,
    }
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" }
    await fetch(`http://127.0.0.1:${port}/hooks`, {
      method: "POST",
      headers,
      body: JSON.stringify(body),
    })
      .then((answer) => answer.text())
      .catch(() => {}) // a supervisor may hang up on such a caller
  }
  for (let count = 0; count < 1500; count += 50)
    await Promise.all(Array.from({ length: 50 }, (_, one) => post(count + one)))

  const audit = await world.cli("audit", "--json-lines", "--tool", "message_instances")
  expect(audit.stdout.trim().split("\n")).toHaveLength(5)
  const read = async (kinds: readonly string[]) =>
    eventsSchema.parse(await person.call("read_events", { name: "fox", kinds, limit: 500 })).events
  expect((await read(["Spawned", "MailSent"])).length).toBe(6)
  const timeline = z.object({ events: z.array(z.unknown()), cursor: z.string() })
  let told = 0
  for (let after = ""; ; ) {
    const page = timeline.parse(
      await person.call("read_events", { name: "fox", after, limit: 500 }),
    )
    if (page.events.length === 0) break
    told += page.events.length
    after = page.cursor
  }
  expect(told).toBeGreaterThan(6)
  expect(told).toBeLessThan(800)
  await person.close()
}, 180_000)
