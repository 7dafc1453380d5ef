import { expect, it } from "vitest"
import { shareQuestions } from "../../src/api/shared-questions.ts"
import type { Authenticated } from "../../src/core/authenticate-port.ts"

/** Somebody who is asked over the network: what callers of the same moment cost, and no more. */

const ann: Authenticated = { who: { kind: "human", id: "ann", role: "viewer" } }
const bounds = { waitingMax: 3, answerMs: 60_000, believedMs: 60_000, believedMax: 10 }
const never = new AbortController().signal

/** Answers when the test says so. */
function slowAnswers(more: Partial<typeof bounds> = {}) {
  const questions: {
    readonly bearer: string
    readonly signal: AbortSignal
    answer(found: Authenticated | undefined): void
    fail(error: unknown): void
  }[] = []
  let now = 0
  const ask = shareQuestions(
    (bearer, signal) => {
      const { promise, resolve, reject } = Promise.withResolvers<Authenticated | undefined>()
      questions.push({ bearer, signal, answer: resolve, fail: reject })
      return promise
    },
    { ...bounds, ...more },
    () => now,
  )
  return {
    ask,
    questions,
    setNow(ms: number) {
      now = ms
    },
  }
}
const unavailable = { code: "Unavailable" }

it("asks once for all callers with the same bearer, and each other bearer by itself", async () => {
  const { ask, questions } = slowAnswers()
  const answers = [ask("a", never), ask("a", never), ask("b", never)]
  expect(questions.map(({ bearer }) => bearer)).toEqual(["a", "b"])
  questions[0]?.answer(ann)
  questions[1]?.answer(undefined)
  expect(await Promise.all(answers)).toEqual([ann, ann, undefined])
})

it("believes a good answer until the credential ends, and keeps no refusal", async () => {
  const { ask, questions, setNow } = slowAnswers()
  const found = { ...ann, untilMs: 1000 }
  const first = ask("a", never)
  questions[0]?.answer(found)
  expect(await first).toEqual(found)
  expect(await ask("a", never)).toEqual(found)
  expect(questions).toHaveLength(1)
  setNow(1000)
  const second = ask("a", never)
  questions[1]?.fail(new Error("expired"))
  await expect(second).rejects.toThrow("expired")
  const third = ask("a", never)
  questions[2]?.answer(undefined)
  expect(await third).toBeUndefined()
  void ask("a", never)
  expect(questions).toHaveLength(4)
})

it("lets go of a caller who leaves, and of the question when the last has left", async () => {
  const { ask, questions } = slowAnswers()
  const [one, other] = [new AbortController(), new AbortController()]
  const answers = [ask("a", one.signal), ask("a", other.signal)]
  one.abort()
  await expect(answers[0]).rejects.toMatchObject(unavailable)
  expect(questions[0]?.signal.aborted).toBe(false)
  other.abort()
  await expect(answers[1]).rejects.toMatchObject(unavailable)
  expect(questions[0]?.signal.aborted).toBe(true)
  const next = ask("a", never)
  questions[1]?.answer(ann)
  expect(await next).toEqual(ann)
})

it("lets so many wait and refuses more at once, until there is room again", async () => {
  const { ask, questions } = slowAnswers()
  const waiting = ["a", "a", "b"].map((bearer) => ask(bearer, never))
  await expect(ask("c", never)).rejects.toMatchObject(unavailable)
  expect(questions).toHaveLength(2)
  for (const question of questions) question.answer(ann)
  await Promise.all(waiting)
  const next = ask("c", never)
  questions[2]?.answer(ann)
  expect(await next).toEqual(ann)
})

it("gives up on a question that is never answered", async () => {
  const { ask, questions } = slowAnswers({ answerMs: 20 })
  await expect(ask("a", never)).rejects.toMatchObject(unavailable)
  expect(questions[0]?.signal.aborted).toBe(true)
})
