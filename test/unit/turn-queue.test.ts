import { spawn } from "node:child_process"
import { once } from "node:events"
import { expect, it } from "vitest"
import { createTurnQueue, waitingMax } from "../../src/agent/turn-queue.ts"
import { type ProcessId, processId } from "../../src/host/processes.ts"
import { expectFault } from "../contract/expect-fault.ts"

const alive = (pid = process.pid): ProcessId => {
  const id = processId(pid)
  if (!id) throw new Error(`there is no process ${pid}`)
  return id
}
const never = new AbortController().signal
const asks = (id: string, sinceMs = 1) => ({ id, shim: alive(), sinceMs })

it("gives claudes side by side their turn in the order in which they asked, each once", async () => {
  const queue = createTurnQueue<string>()
  const answers = ["a", "b", "c"].map((id) => queue.ask(asks(id), never))
  for (const id of ["a", "b", "c"]) {
    expect(queue.first()?.id).toBe(id)
    queue.answer(`turn of ${id}`)
  }
  expect(queue.first()).toBeUndefined()
  expect(await Promise.all(answers)).toEqual(["turn of a", "turn of b", "turn of c"])
})

it("keeps the place of one that asks again, whose first question is answered with nothing", async () => {
  const queue = createTurnQueue<string>()
  const first = queue.ask(asks("a"), never)
  const other = queue.ask(asks("b"), never)
  const again = queue.ask(asks("a", 9), never)
  expect(await first).toBeUndefined()
  expect(queue.first()).toMatchObject({ id: "a", sinceMs: 1 })
  queue.answer("a's")
  queue.answer("b's")
  expect(await Promise.all([again, other])).toEqual(["a's", "b's"])
})

it("gives one up that went away, and keeps its place for its next question", async () => {
  const queue = createTurnQueue<string>()
  const gone = new AbortController()
  const first = queue.ask(asks("a"), gone.signal)
  gone.abort()
  expect(await first).toBeUndefined()
  expect(queue.has("a")).toBe(true)
})

it("forgets those that died, so that the next one has its turn", async () => {
  const queue = createTurnQueue<string>()
  const child = spawn("sleep", ["1000"])
  const dead = queue.ask({ id: "a", shim: alive(child.pid), sinceMs: 1 }, never)
  void queue.ask(asks("b"), never)
  expect(queue.dropDead()).toBe(false)
  child.kill("SIGKILL")
  await once(child, "exit")
  expect(queue.dropDead()).toBe(true)
  expect(await dead).toBeUndefined()
  expect(queue.first()?.id).toBe("b")
  queue.answer(undefined)
})

it("is bounded, and follows a clock that was set back", async () => {
  const queue = createTurnQueue<string>()
  const answers = Array.from({ length: waitingMax }, (_, number) =>
    queue.ask(asks(`t-${number}`, 5000), never),
  )
  await expectFault(
    Promise.resolve().then(() => queue.ask(asks("one more"), never)),
    "TooLarge",
    /64 calls of claude are already waiting/,
  )
  queue.shift(2000)
  expect(queue.first()?.sinceMs).toBe(3000)
  for (const _ of answers) queue.answer(undefined)
  expect(await Promise.all(answers)).toEqual(answers.map(() => undefined))
})
