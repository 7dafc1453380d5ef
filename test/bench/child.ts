import { spawn } from "node:child_process"
import { once } from "node:events"
import { setTimeout as sleep } from "node:timers/promises"

/** A program that is spoken to in lines. */
export interface Child extends AsyncDisposable {
  readonly pid: number
  /**
   * Writes a line, if one is given; resolves with the next line that comes. @throws when none
   * comes.
   */
  ask(line?: string): Promise<string>
  /** For one that does not end with its input. */
  kill(): void
}
const answerMs = 20_000
const endMs = 5_000
/** Far above any answer of a server of tools. */
const answerCharactersMax = 4 * 1024 * 1024

/** Starts a program; when disposed of, its input ends, and it too, else it is killed. */
export function startChild(
  program: string,
  args: readonly string[],
  env: Record<string, string>,
): Child {
  const child = spawn(program, args, { env, stdio: ["pipe", "pipe", "inherit"] })
  let text = ""
  let take: ((line: string) => void) | undefined
  let fail: ((error: Error) => void) | undefined
  const next = (): void => {
    const end = text.indexOf("\n")
    if (end < 0 || !take) return
    take(text.slice(0, end))
    text = text.slice(end + 1)
    take = undefined
  }
  child.stdout.setEncoding("utf8")
  child.stdout.on("data", (more: string) => {
    text += more
    next()
    if (text.length > answerCharactersMax) child.kill("SIGKILL")
  })
  child.stdin.on("error", () => {}) // it ended: its exit says so
  child.once("error", (error) => fail?.(error))
  const ended = new Promise<void>((resolve) => {
    child.once("close", () => {
      fail?.(new Error(`${program} ended instead of answering`))
      resolve()
    })
  })
  return {
    pid: child.pid ?? -1,
    async ask(line) {
      const late = setTimeout(
        () => fail?.(new Error(`${program} did not answer in ${answerMs} ms`)),
        answerMs,
      )
      try {
        return await new Promise<string>((resolve, reject) => {
          take = resolve
          fail = reject
          if (child.exitCode !== null) reject(new Error(`${program} has ended`))
          if (line !== undefined) child.stdin.write(`${line}\n`)
          next()
        })
      } finally {
        clearTimeout(late)
        take = undefined
        fail = undefined
      }
    },
    kill: () => void child.kill("SIGKILL"),
    async [Symbol.asyncDispose]() {
      child.stdin.end()
      const timer = new AbortController()
      await Promise.race([ended, sleep(endMs, undefined, { signal: timer.signal }).catch(() => {})])
      timer.abort()
      if (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGKILL")
        await once(child, "close")
      }
    },
  }
}
