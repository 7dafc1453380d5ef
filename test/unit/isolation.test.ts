import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { warningOf } from "../../src/host/isolation-probe.ts"
import { systemPath } from "../../src/host/system-path.ts"
import { probed, temporary } from "./scratch.ts"

describe("the isolation that works here", () => {
  it.each<[string, string, RegExp]>([
    ["there is no unshare", "", /no program unshare .* in /],
    [
      "unshare is refused",
      "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1",
      /made: unshare: .*not permitted\.$/,
    ],
  ])("is none but the process tree when %s, and says why", async (_, script, why) => {
    const directory = temporary()
    if (script) writeFileSync(join(directory, "unshare"), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    const found = await probed(
      join(directory, "state"),
      script ? `${directory}:${systemPath}` : directory,
    )
    expect(found).toEqual({ kind: "process tree", why: expect.stringMatching(why) })
    expect(warningOf(found)).toContain(found.why)
  })

  it("lacks the view where nothing can be mounted", async () => {
    const directory = temporary()
    const whole = await probed(join(directory, "state"))
    writeFileSync(join(directory, "mount"), "#!/bin/sh\necho 'mount: not here' >&2; exit 32\n", {
      mode: 0o755,
    })
    const { kind, why } = await probed(join(directory, "state"), `${directory}:${systemPath}`)
    expect(kind).toBe(whole.kind === "process tree" ? "process tree" : "pid namespace")
    expect(why).toContain(whole.kind === "process tree" ? "" : "mount: not here")
  })
})
