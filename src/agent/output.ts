import { execFileSync } from "node:child_process"
import { closeSync, constants, existsSync, fstatSync, openSync, renameSync, writeSync } from "node:fs"
import { Socket } from "node:net"
import { StringDecoder } from "node:string_decoder"
import type { RunDirectory } from "../run-directory.ts"

/** The current part of a log; with the part before it a run's log is at most twice this. */
export const logBytesMax = 8 * 1024 * 1024
/** A longer line is broken. */
const lineCharactersMax = 16_384

export interface Output {
  /** For the loop's stdout and stderr: open for reading and writing, so that the loop never sees a broken pipe. */
  openForLoop(): number
  /** Takes what is still in the FIFO once nobody writes any more, and closes. */
  finish(): Promise<void>
}

/** From the loop's FIFO to the run's log file: each line with the moment of its arrival. */
export function captureOutput(directory: RunDirectory, nowMs: () => number): Output {
  if (!existsSync(directory.output)) execFileSync("mkfifo", ["-m", "600", directory.output])
  let log = openSync(directory.log, "a", 0o600)
  let size = fstatSync(log).size
  const write = (text: string): void => {
    const bytes = Buffer.from(text)
    if (size + bytes.length > logBytesMax && size > 0) {
      closeSync(log)
      renameSync(directory.log, `${directory.log}.1`)
      log = openSync(directory.log, "a", 0o600)
      size = 0
    }
    writeSync(log, bytes)
    size += bytes.length
  }
  const decoder = new StringDecoder("utf8")
  let rest = ""
  const pieces = (line: string): string[] =>
    Array.from({ length: Math.max(1, Math.ceil(line.length / lineCharactersMax)) }, (_, index) =>
      line.slice(index * lineCharactersMax, (index + 1) * lineCharactersMax),
    )
  const lines = (text: string): void => {
    const stamp = new Date(nowMs()).toISOString()
    const parts = (rest + text).split("\n").flatMap(pieces)
    rest = parts.pop() ?? ""
    if (parts.length > 0) write(parts.map((line) => `${stamp} ${line}\n`).join(""))
  }
  // Non-blocking and for reading and writing: libuv watches it like a pipe, and it never ends while this supervisor lives.
  const reader = new Socket({
    fd: openSync(directory.output, constants.O_RDWR | constants.O_NONBLOCK),
    readable: true,
    writable: false,
  })
  reader.on("data", (chunk: Buffer) => lines(decoder.write(chunk)))
  return {
    openForLoop: () => openSync(directory.output, constants.O_RDWR),
    async finish() {
      // What was written before the end is in the FIFO: libuv gives it in this or the next turn of the event loop.
      for (let quiet = 0, seen = reader.bytesRead; quiet < 3; seen = reader.bytesRead) {
        await new Promise((resolve) => setImmediate(resolve))
        quiet = reader.bytesRead === seen ? quiet + 1 : 0
      }
      reader.destroy()
      if (rest !== "") lines("\n")
      closeSync(log)
    },
  }
}
