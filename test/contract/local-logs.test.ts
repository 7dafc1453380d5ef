/**
 * The contract suite on the run directories of a machine, and what is true of their files alone.
 */
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { lineBytesMax } from "../../src/adapters/local/line-file.ts"
import { localLogs } from "../../src/adapters/local/logs.ts"
import { type RunDirectory, runDirectory } from "../../src/run/run-directory.ts"
import { instanceDirectory } from "../../src/run/runs.ts"
import { startMs, uid } from "./harness.ts"
import { describeLogs, type OpenedLogs } from "./logs.ts"

const shop = { name: "shop", uid: uid("u-shop") }

function openLocal(): OpenedLogs & { state: string; run(): RunDirectory } {
  const state = mkdtempSync(join(tmpdir(), "bb5-logs-"))
  let runs = 0
  let half = false
  const start = (): RunDirectory => {
    const directory = runDirectory(
      join(instanceDirectory(state, shop.uid), `00000000${++runs}-abcd`),
    )
    mkdirSync(directory.status, { recursive: true })
    return directory
  }
  let run = start()
  const write = (atMs: number, text: string): void =>
    appendFileSync(run.log, half ? text : `${new Date(atMs).toISOString()} ${text}`)
  return {
    state,
    run: () => run,
    logs: localLogs(state),
    print(atMs, text) {
      write(atMs, `${text}\n`)
      half = false
    },
    begin(atMs, text) {
      write(atMs, text)
      half = true
    },
    restart() {
      run = start()
    },
    close: () => rmSync(state, { recursive: true }),
  }
}

describeLogs("local", openLocal)

describe("the files of a log", () => {
  let opened: ReturnType<typeof openLocal>
  beforeEach(() => {
    opened = openLocal()
  })
  afterEach(() => opened.close())
  const page = (after?: string, lines = 100, source: "loop" | "transcript" = "loop") =>
    opened.logs(shop, { source, lines, ...(after !== undefined && { after }) })
  const texts = async (...query: Parameters<typeof page>) =>
    (await page(...query)).lines.map(({ text }) => text)

  it("are followed when they are rotated, once; after a second time it is said that lines are lost", async () => {
    let atMs = startMs
    const print = (text: string): void => {
      atMs += 1000
      opened.print(atMs, text)
    }
    const rotate = (): void => renameSync(opened.run().log, `${opened.run().log}.1`)
    print("1")
    print("2")
    const [first] = (await page()).lines
    rotate()
    print("3")
    expect(await texts(first?.cursor)).toEqual(["2", "3"])
    const third = (await page()).cursor
    rotate()
    print("4")
    expect(await texts(third)).toEqual(["4"])
    expect(await page(first?.cursor)).toMatchObject({
      lost: true,
      lines: [{ text: "3" }, { text: "4" }],
    })
    expect(await texts()).toEqual(["3", "4"])
  })

  it("may be large: the last lines are found without the rest, and a line beyond all measure is left out", async () => {
    const stamp = new Date(startMs).toISOString()
    const many = Array.from({ length: 60_000 }, (_, index) => `${stamp} line ${index}\n`).join("")
    appendFileSync(opened.run().log, many)
    expect(await texts(undefined, 2)).toEqual(["line 59998", "line 59999"])
    expect(await texts(undefined, 20_000)).toHaveLength(20_000)
    const { cursor } = await page()
    appendFileSync(opened.run().log, `${stamp} ${"x".repeat(lineBytesMax + 10)}\n${stamp} after\n`)
    expect(await texts(cursor)).toEqual(["after"])
    expect(await texts(undefined, 1)).toEqual(["after"])
  })

  it("are not what a symbolic link points at, and no FIFO is waited for", async () => {
    writeFileSync(join(opened.state, "secret"), `${new Date(startMs).toISOString()} secret\n`)
    symlinkSync(join(opened.state, "secret"), opened.run().log)
    expect(await page()).toMatchObject({ lines: [], lost: false })
  })

  describe("of transcripts", () => {
    const record = (atMs: number, more: object): string =>
      `${JSON.stringify({ timestamp: new Date(atMs).toISOString(), ...more })}\n`
    const said = (atMs: number, ...said: string[]): string =>
      record(atMs, {
        type: "assistant",
        message: { content: said.map((text) => ({ type: "text", text })) },
      })
    const transcript = (name: string): string => join(opened.state, name)

    it("are those that the runs name, oldest first, and are followed from one iteration to the next", async () => {
      writeFileSync(transcript("a.jsonl"), said(startMs, "one", "two"))
      writeFileSync(transcript("b.jsonl"), said(startMs + 1000, "three"))
      opened.run().set("transcripts", { paths: [transcript("a.jsonl"), transcript("b.jsonl")] })
      const all = ["claude: one", "claude: two", "claude: three"]
      expect(await texts(undefined, 9, "transcript")).toEqual(all)
      const { lines, cursor } = await page(undefined, 9, "transcript")
      // Also in the middle of a record.
      for (const [index, line] of lines.entries())
        expect(await texts(line.cursor, 9, "transcript")).toEqual(all.slice(index + 1))
      expect(await page("", 1, "transcript")).toMatchObject({
        lines: [{ text: "claude: one" }],
        more: true,
      })
      appendFileSync(transcript("b.jsonl"), said(startMs + 2000, "four"))
      opened.restart()
      writeFileSync(transcript("c.jsonl"), said(startMs + 3000, "five"))
      opened.run().set("transcripts", { paths: [transcript("c.jsonl")] })
      expect(await texts(cursor, 9, "transcript")).toEqual(["claude: four", "claude: five"])
    })

    it("are read as far as they are whole and known", async () => {
      writeFileSync(
        transcript("a.jsonl"),
        [
          record(startMs, { type: "mystery", message: { content: "?" } }),
          "{broken\n",
          "\n",
          "17\n",
          JSON.stringify({ type: "summary", summary: "without a moment" }),
          "\n",
          record(startMs, {
            type: "assistant",
            message: { content: [7, { type: "mystery" }, { type: "text", text: "known" }] },
          }),
          said(startMs, "half").slice(0, 30),
        ].join(""),
      )
      opened.run().set("transcripts", { paths: [transcript("a.jsonl")] })
      expect(await texts(undefined, 9, "transcript")).toEqual(["claude: known"])
    })

    it("are regular files of that name alone", async () => {
      writeFileSync(transcript("secret.txt"), said(startMs, "secret"))
      symlinkSync(transcript("secret.txt"), transcript("link.jsonl"))
      mkdirSync(transcript("directory.jsonl"))
      const paths = ["secret.txt", "link.jsonl", "directory.jsonl", "missing.jsonl"].map(transcript)
      opened.run().set("transcripts", { paths: [...paths, "/dev/zero"] })
      expect(await page(undefined, 9, "transcript")).toMatchObject({ lines: [] })
    })
  })
})
