import { spawnSync } from "node:child_process"
import { accessSync, constants } from "node:fs"
import { delimiter, join } from "node:path"
import { ordinaryUser } from "./e2e/person.ts"

/**
 * Programs of the system that loops in the tests run in, or are looked at with; each the name of
 * its Debian package too.
 */
const needed = ["tmux", "screen", "strace"] as const

const isOnPath = (name: string): boolean =>
  (process.env.PATH ?? "").split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
const missing = (): readonly string[] => needed.filter((name) => !isOnPath(name))

const isUser = (name: string): boolean =>
  spawnSync("id", ["-u", name], { stdio: "ignore" }).status === 0

/**
 * The ordinary user as whom root's tests run too; it stays, as installed programs do. @throws Error
 * that says what to do.
 */
function makeOrdinaryUser(): void {
  if (process.getuid?.() !== 0 || isUser(ordinaryUser)) return
  const { stderr } = spawnSync("useradd", ["--create-home", "--shell", "/bin/bash", ordinaryUser], {
    encoding: "utf8",
  })
  // Tests of another checkout may have made it at the same moment.
  if (isUser(ordinaryUser)) return
  throw new Error(
    `Some tests run as an ordinary user, ${ordinaryUser}, which could not be made (${stderr?.trim() || "there is no useradd"}). Make it, or run the tests as an ordinary user.`,
  )
}

/**
 * Before the first test: installs what is missing where that is possible. @throws Error that says
 * what to install.
 */
export default function setup(): void {
  makeOrdinaryUser()
  const wanted = missing()
  if (wanted.length === 0) return
  if (process.getuid?.() === 0 && isOnPath("apt-get")) {
    const aptGet = (...args: readonly string[]): void => {
      // Another apt-get on this machine is waited for.
      spawnSync("apt-get", ["-qq", "-o", "DPkg::Lock::Timeout=120", ...args], {
        stdio: ["ignore", "ignore", "inherit"],
        env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
        timeout: 300_000,
      })
    }
    aptGet("install", "-y", "--no-install-recommends", ...wanted)
    if (missing().length > 0) {
      aptGet("update")
      aptGet("install", "-y", "--no-install-recommends", ...wanted)
    }
  }
  const left = missing()
  if (left.length > 0)
    throw new Error(
      `The tests need ${left.join(" and ")}, which this machine lacks: apt-get install ${left.join(" ")}`,
    )
}
