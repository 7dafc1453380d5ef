import { accessSync, constants, mkdtempSync, rmSync, symlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll } from "vitest"

/** A claude that a test can take away: the only one on the PATH of its world. */
const realClaude = fileURLToPath(new URL("../../node_modules/.bin/claude", import.meta.url))
const bins: string[] = []
export function removableClaude(): { PATH: string; remove(): void; bring(): void } {
  const bin = mkdtempSync(join(tmpdir(), "bb5-bin-"))
  bins.push(bin)
  const others = (process.env.PATH ?? "").split(delimiter).filter((entry) => {
    try {
      accessSync(join(entry, "claude"), constants.X_OK)
      return false
    } catch {
      return entry !== ""
    }
  })
  const path = join(bin, "claude")
  const bring = (): void => symlinkSync(realClaude, path)
  bring()
  return {
    PATH: [bin, dirname(process.execPath), ...others]
      .filter(unlike(dirname(realClaude)))
      .join(delimiter),
    remove: () => rmSync(path),
    bring,
  }
}
const unlike = (one: string) => (other: string) => one !== other
afterAll(() => {
  for (const bin of bins) rmSync(bin, { recursive: true })
})
