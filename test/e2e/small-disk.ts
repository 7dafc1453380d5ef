import { execFileSync } from "node:child_process"
import { appendFileSync, existsSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

/** A disk that can be made full and empty again. */
export interface SmallDisk {
  /** What the processes of the world need to find it small. */
  readonly env: Record<string, string>
  fill(): void
  free(): void
  end(): void
}

/**
 * A real one of a few megabytes, mounted on the directory, where mounting is allowed. Elsewhere the writes of our own processes fail as on a
 * full disk: `full-disk.mjs` sees to that.
 */
export function smallDisk(directory: string, beside: string): SmallDisk {
  const ballast = join(directory, "ballast")
  const flag = join(beside, "disk-is-full")
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", directory], { stdio: "ignore" })
  } catch {
    const preload = fileURLToPath(new URL("full-disk.mjs", import.meta.url))
    return {
      env: { NODE_OPTIONS: `--import=${preload}`, FULL_DISK_FLAG: flag, FULL_DISK_DIRECTORY: directory },
      fill: () => writeFileSync(flag, ""),
      free: () => rmSync(flag, { force: true }),
      end: () => {},
    }
  }
  return {
    env: {},
    fill() {
      for (let bytes = 1 << 20; bytes >= 1; )
        try {
          appendFileSync(ballast, Buffer.alloc(bytes))
        } catch {
          bytes >>= 1 // what fits no more in large pieces may in small ones
        }
    },
    free: () => rmSync(ballast, { force: true }),
    end() {
      if (existsSync(directory)) execFileSync("umount", ["-l", directory])
    },
  }
}
