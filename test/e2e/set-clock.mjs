// Loaded before a program: its clock is off by as many milliseconds as a file says, which may change at any time. The steady clock is not.
import { readFileSync } from "node:fs"

const file = process.env.SET_CLOCK_FILE ?? ""
const RealDate = Date
let offset = 0
let readAtMs = Number.NEGATIVE_INFINITY
const now = () => {
  if (performance.now() - readAtMs > 50) {
    readAtMs = performance.now()
    try {
      offset = Number(readFileSync(file, "utf8"))
    } catch {
      offset = 0
    }
  }
  return RealDate.now() + offset
}
globalThis.Date = class extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(now())
    else super(...args)
  }
  static now() {
    return now()
  }
}
