import { execFileSync } from "node:child_process"
import { expect, it } from "vitest"
import { z } from "zod"

it("writes lines that are what they look like, each one JSON", () => {
  const program = `import { createLog } from "./src/settings/log.ts"
    createLog("info", "serve").error({ said: "git \\u202eabc\\u009b2J \\u{e0041}\\u001b[2J" }, "a \\u200bb")`
  const line = execFileSync(
    "sh",
    ["-c", '"$0" --input-type=module -e "$1" 2>&1', process.execPath, program],
    {
      encoding: "utf8",
    },
  )
  expect(line).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}]/u)
  expect(z.object({ msg: z.string(), said: z.string() }).parse(JSON.parse(line))).toEqual({
    msg: "a b",
    said: "git abc2J \u001b[2J",
  })
})
