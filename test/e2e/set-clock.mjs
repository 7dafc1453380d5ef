// Loaded before a program: its clock is off by as many milliseconds as a file says, which may change at any time and counts at once: who was
// told of a change must not meet a program that still has the time of before. The steady clock is not off.
import { readFileSync } from "node:fs"

const file = process.env.SET_CLOCK_FILE ?? ""
const RealDate = Date
const now = () => {
  try {
    return RealDate.now() + Number(readFileSync(file, "utf8"))
  } catch {
    return RealDate.now()
  }
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
