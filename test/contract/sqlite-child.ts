/**
 * A process that opens the database it is told and does one thing with it: `hold` it, or `send`
 * mail and say on stdout which it was acknowledged.
 */
import { writeSync } from "node:fs"
import { openDatabase } from "../../src/adapters/sqlite/open.ts"
import { aMail, manualClock, uid } from "./harness.ts"
import { sqlitePorts } from "./sqlite-ports.ts"

const [path = "", task] = process.argv.slice(2)
const database = await openDatabase(path)
writeSync(1, "open\n")
if (task === "send") {
  const { mailboxes } = sqlitePorts(database, manualClock())
  // Two thousand bytes each, to several inboxes, half of it settled at once: the log is written,
  // checkpointed and trimmed meanwhile.
  for (let count = 0; ; count++) {
    const id = `m${count}`
    await mailboxes.send(uid(`u${count % 50}`), aMail(id, { text: id.padEnd(2000, ".") }))
    if (count % 2 === 0 || count >= 50 * 190)
      await mailboxes.receipt(uid(`u${count % 50}`), { mail: id, state: "Delivered" })
    writeSync(1, `${id}\n`)
  }
} else {
  process.stdin.resume() // holds it until stdin ends
  process.stdin.on("end", () => database.close())
}
