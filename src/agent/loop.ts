import { spawn } from "node:child_process"
import { createReadStream, existsSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { backoffMs } from "../core/decide.ts"
import { markerOf } from "../core/final-message.ts"

/** Between two iterations, as in ralf-loop.sh. */
const pauseMs = 10_000
/** What its claude wrote is read within this after its exit, though others may hold the pipe. */
const drainMs = 1000
/** What is kept of an iteration's output to look for a marker in. */
const tailCharacters = 65_536

/**
 * Files of a project that may hold the prompt; without one, the goal that the fleet gives at the
 * start of each iteration is all.
 */
const promptFiles = [".autonomous/prompt.md", "PROMPT.md"]
const ownPrompt =
  "Work towards your goal in this repository, in small steps that you verify and commit. End your last message with a line of its own that says how far you are: <promise>COMPLETE</promise> when the goal is fully reached; Status: BLOCKED, with the reason above it, when you cannot go on without a person; otherwise Status: PARTIAL, with what comes next above it."

/**
 * The built-in loop, for projects without a loop script: the same contract as ralf-loop.sh. Its
 * claude is the claude shim, so that turns, mail and pauses hold here as there. Resolves with the
 * exit code: 0 on COMPLETE, 130 when it is told to end.
 */
export async function runLoop(directory: string): Promise<number> {
  const ended = new AbortController()
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => ended.abort())
  const prompt = promptFiles.map((file) => join(directory, file)).find((file) => existsSync(file))
  for (let failures = 0; !ended.signal.aborted; ) {
    const { code, tail } = await iterate(prompt, directory, ended.signal)
    if (ended.signal.aborted) break
    if (code === 0 && markerOf(tail) === "COMPLETE") return 0
    failures = code === 0 ? 0 : failures + 1
    await sleep(Math.max(pauseMs, failures > 0 ? backoffMs(failures) : 0), undefined, {
      signal: ended.signal,
    }).catch(() => {})
  }
  return 130
}

function iterate(
  prompt: string | undefined,
  directory: string,
  signal: AbortSignal,
): Promise<{ code: number; tail: string }> {
  return new Promise((resolve) => {
    const child = spawn("claude", ["-p", "--dangerously-skip-permissions"], {
      cwd: directory,
      stdio: ["pipe", "pipe", "inherit"],
    })
    let tail = ""
    child.stdout.on("data", (chunk: Buffer) => {
      process.stdout.write(chunk)
      tail = (tail + chunk.toString()).slice(-tailCharacters)
    })
    child.stdin.on("error", () => {}) // it ended before it read its prompt: the exit code says so
    if (prompt) createReadStream(prompt).pipe(child.stdin)
    else child.stdin.end(ownPrompt)
    const stop = (): void => void child.kill("SIGTERM")
    signal.addEventListener("abort", stop, { once: true })
    child.once("error", (error) => {
      process.stderr.write(`blackbox5: claude could not be started: ${error.message}\n`)
      resolve({ code: 127, tail })
    })
    // Its exit, not its end of the pipe: a command that it left in the background may keep that
    // open for ever. Such a command goes on writing.
    child.once("exit", (code) => {
      signal.removeEventListener("abort", stop)
      if ("unref" in child.stdout && typeof child.stdout.unref === "function") child.stdout.unref()
      const settle = (): void => {
        clearTimeout(timer)
        resolve({ code: code ?? 143, tail })
      }
      const timer = setTimeout(settle, drainMs)
      child.once("close", settle)
    })
  })
}
