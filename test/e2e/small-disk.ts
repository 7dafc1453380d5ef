import { execFileSync } from "node:child_process"
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

/** A disk that can be made full and empty again. */
export interface SmallDisk extends Disposable {
  readonly directory: string
  /** False where it is only played: then nothing that is given back makes room. */
  readonly isReal: boolean
  /** What the processes of the world need to find it small. */
  readonly env: Record<string, string>
  fill(): void
  free(): void
}

/**
 * A real one of a few megabytes, where mounting is allowed. Elsewhere the writes of our own
 * processes fail as on a full disk: `full-disk.mjs` sees to that.
 */
export function smallDisk(): SmallDisk {
  const beside = mkdtempSync(join(tmpdir(), "bb5-disk-"))
  const directory = join(beside, "disk")
  mkdirSync(directory)
  const remove = (): void => rmSync(beside, { recursive: true, force: true })
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", directory], {
      stdio: "ignore",
    })
  } catch {
    const flag = join(beside, "full")
    const preload = fileURLToPath(new URL("full-disk.mjs", import.meta.url))
    return {
      directory,
      isReal: false,
      env: {
        NODE_OPTIONS: `--import=${preload}`,
        FULL_DISK_FLAG: flag,
        FULL_DISK_DIRECTORY: directory,
      },
      fill: () => writeFileSync(flag, ""),
      free: () => rmSync(flag),
      [Symbol.dispose]: remove,
    }
  }
  const ballast = join(directory, "ballast")
  return {
    directory,
    isReal: true,
    env: {},
    fill() {
      for (let bytes = 1 << 20; bytes >= 1; )
        try {
          appendFileSync(ballast, Buffer.alloc(bytes))
        } catch {
          bytes >>= 1 // what fits no more in large pieces may in small ones
        }
    },
    free: () => rmSync(ballast),
    [Symbol.dispose]() {
      execFileSync("umount", ["-l", directory])
      remove()
    },
  }
}
