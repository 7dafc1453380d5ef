import { execFileSync } from "node:child_process"
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  openSync,
  renameSync,
  writeSync,
} from "node:fs"
import { Socket } from "node:net"
import { StringDecoder } from "node:string_decoder"
import { errorCode } from "../core/error-code.ts"
import { counted, partsOf } from "../core/view.ts"
import { systemProgram } from "../host/system-path.ts"
import type { RunDirectory } from "../run/run-directory.ts"
import { passes } from "./disk-retry.ts"

/** The current part of a log; with the part before it a run's log is at most twice this. */
export const logBytesMax = 8 * 1024 * 1024
/** A longer line is broken. */
const lineCharactersMax = 16_384
/**
 * Lines that are remembered, to say what a claude printed that refused to start; and how many of
 * these are told.
 */
const recentMax = 50
const toldMax = 3
/** What is taken of a loop's output: 10 MiB/s, which is 200,000 lines of 50 bytes. */
const sliceMs = 50
const sliceBytesMax = 512 * 1024

export interface Output {
  /**
   * For the loop's stdout and stderr: open for reading and writing, so that the loop never sees a
   * broken pipe.
   */
  openForLoop(): number
  /** The first lines that were printed since then, of the last ones that are remembered. */
  printedSince(ms: number): readonly string[]
  /** Takes what is still in the FIFO once nobody writes any more, and closes. */
  finish(): Promise<void>
}

/** From the loop's FIFO to the run's log file: each line with the moment of its arrival. */
export function captureOutput(directory: RunDirectory, nowMs: () => number): Output {
  if (!existsSync(directory.output))
    execFileSync(systemProgram("mkfifo"), ["-m", "600", directory.output])
  let log = openSync(directory.log, "a", 0o600)
  let size = fstatSync(log).size
  /**
   * Lines that a full disk took from the log; the loop goes on, and the log says so when there is
   * room.
   */
  let lost = 0
  let why = ""
  const append = (text: string): void => {
    const bytes = Buffer.from(text)
    if (size + bytes.length > logBytesMax && size > 0) {
      renameSync(directory.log, `${directory.log}.1`)
      closeSync(log)
      log = openSync(directory.log, "a", 0o600)
      size = 0
    }
    for (let done = 0; done < bytes.length; ) {
      const written = writeSync(log, bytes, done)
      done += written
      size += written
    }
  }
  const write = (text: string, lines: number): void => {
    const stamp = new Date(nowMs()).toISOString()
    const note =
      lost > 0
        ? `\n${stamp} blackbox5: ${counted(lost, "line is", "lines are")} missing here: the log could not be written (${why}).\n`
        : ""
    try {
      append(note + text)
      lost = 0
    } catch (error) {
      if (!passes(error)) throw error
      why = errorCode(error) ?? ""
      lost += lines
    }
  }
  const recent: { atMs: number; line: string }[] = []
  const decoder = new StringDecoder("utf8")
  let rest = ""
  const lines = (text: string): void => {
    const atMs = nowMs()
    const stamp = new Date(atMs).toISOString()
    const parts = (rest + text).split("\n").flatMap((line) => partsOf(line, lineCharactersMax))
    rest = parts.pop() ?? ""
    recent.push(...parts.slice(-recentMax).map((line) => ({ atMs, line })))
    recent.splice(0, Math.max(0, recent.length - recentMax))
    if (parts.length > 0) write(parts.map((line) => `${stamp} ${line}\n`).join(""), parts.length)
  }
  // Non-blocking and for reading and writing: libuv watches it like a pipe, and it never ends while
  // this supervisor lives.
  const reader = new Socket({
    fd: openSync(directory.output, constants.O_RDWR | constants.O_NONBLOCK),
    readable: true,
    writable: false,
  })
  // A loop that prints without end waits at the FIFO, rather than take the processor from those at
  // work.
  let taken = 0
  let slice: NodeJS.Timeout | undefined
  let finishing = false
  const breathe = (): void => {
    taken = 0
    slice = undefined
    reader.resume()
  }
  reader.on("data", (chunk: Buffer) => {
    lines(decoder.write(chunk))
    slice ??= setTimeout(breathe, sliceMs)
    taken += chunk.length
    if (taken >= sliceBytesMax && !finishing) reader.pause()
  })
  return {
    openForLoop: () => openSync(directory.output, constants.O_RDWR),
    printedSince: (ms) =>
      recent
        .filter(({ atMs, line }) => atMs >= ms && line.trim() !== "")
        .slice(0, toldMax)
        .map(({ line }) => line),
    async finish() {
      finishing = true
      reader.resume()
      // What was written before the end is in the FIFO: libuv gives it in this or the next turn of
      // the event loop.
      for (let quiet = 0, seen = reader.bytesRead; quiet < 3; seen = reader.bytesRead) {
        await new Promise((resolve) => setImmediate(resolve))
        quiet = reader.bytesRead === seen ? quiet + 1 : 0
      }
      clearTimeout(slice)
      reader.destroy()
      if (rest !== "") lines("\n")
      closeSync(log)
    },
  }
}
