import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import fc from "fast-check"
import { afterEach, describe, expect, it } from "vitest"
import { planView } from "../../src/host/agent-view.ts"
import { type Guarded, guard, makeGuarded, nothingGuarded } from "../../src/host/guarded.ts"
import {
  type Mount,
  otherPaths,
  parseMounts,
  readMounts,
  tableLine,
} from "../../src/host/mount-table.ts"
import { replaceableLinks } from "../../src/host/path-rights.ts"

const directories: string[] = []
afterEach(() => {
  for (const path of directories.splice(0)) rmSync(path, { recursive: true, force: true })
})
/**
 * A home with a state directory in it, and what else is to be made: directories, and files where
 * they have an extension.
 */
function home(...paths: readonly string[]) {
  const path = realpathSync(mkdtempSync(join(tmpdir(), "bb5-view-")))
  directories.push(path)
  const at = (name: string): string => join(path, name)
  for (const one of ["state", ...paths]) {
    mkdirSync(one.includes(".") ? dirname(at(one)) : at(one), { recursive: true })
    if (one.includes(".")) writeFileSync(at(one), "")
  }
  return { path, at }
}
/** The lines of a plan that concern a home, by target: what is mounted there, and how. */
function planned(
  where: ReturnType<typeof home>,
  guarded: Partial<Guarded>,
  work: readonly string[] = [],
  mounts = readMounts(),
) {
  const stateDirectory = where.at("state")
  const options = {
    stateDirectory,
    scratch: join(stateDirectory, "view"),
    guarded: { ...nothingGuarded, ...guarded },
    work,
  }
  const view = planView(options, mounts)
  const lines = view.table
    .split("\n")
    .map((line) => line.split(" "))
    .filter(([, target = ""]) => target.startsWith(where.path))
  return {
    ...view,
    mounted: Object.fromEntries(
      lines.map(([source = "", target = "", , how]) => [
        target.slice(where.path.length) || ".",
        `${source === target ? "itself" : source.replace(where.path, "")} ${how}`,
      ]),
    ),
    order: lines.map(([, target = ""]) => target.slice(where.path.length) || "."),
  }
}

describe("what an agent sees", () => {
  it("hides settings, closes programs, and holds every directory above in its place, from the outside in", () => {
    const where = home("a/config", "a/b/program", "free")
    const { mounted, order, closed, open } = planned(where, {
      hidden: [where.at("a/config"), where.at("none")],
      sealed: [where.at("a/b/program")],
    })
    expect(mounted).toEqual({
      ".": "itself rbind",
      "/a": "itself rbind",
      "/a/b": "itself rbind",
      "/a/config": "/state/view/empty bind,ro",
      "/a/b/program": expect.stringMatching(/^itself rbind,ro/),
    })
    expect(order.indexOf("/a/b")).toBeLessThan(order.indexOf("/a/b/program"))
    expect(closed.toSorted()).toEqual([where.at("a/b/program"), where.at("a/config")])
    expect(open).toEqual([])
  })

  it.each<[string, Partial<Record<"hidden" | "sealed", string>>, Record<string, unknown>]>([
    [
      "a file",
      { hidden: "a/door.sock" },
      { "/a/door.sock": "/dev/null bind", "/a": "itself rbind" },
    ],
    [
      "settings in the state directory, which is hidden with all that is in it",
      { hidden: "state/config" },
      {},
    ],
    [
      "settings that the state directory is in: they can be read, but not written",
      { hidden: "" },
      { ".": "itself rbind,ro" },
    ],
  ])("is guarded whatever is hidden: %s", (_, { hidden }, lines) => {
    const where = home("a/door.sock", "state/config")
    const { mounted } = planned(where, { hidden: hidden === undefined ? [] : [where.at(hidden)] })
    const { ".": _home, ...rest } = mounted
    const found = hidden === "" ? { ".": mounted["."]?.replace(/,no\w+/g, "") } : rest
    expect(found).toEqual(lines)
  })

  it.each<[string, string, readonly string[]]>([
    ["the very directory", "program", ["program"]],
    ["a directory in it", "program/project", ["program"]],
    ["a directory around it", "", ["program", "config"]],
    ["another one", "project", []],
  ])("leaves open what the agent works in, and says so: %s", (_, work, left) => {
    const where = home("program/project", "config", "project")
    const { open, mounted } = planned(
      where,
      { hidden: [where.at("config")], sealed: [where.at("program")] },
      [where.at(work)],
    )
    // Settings can be hidden in the middle of what it works in.
    expect(open).toEqual(left.filter((name) => name === "program").map(where.at))
    expect(mounted["/config"]).toBe("/state/view/empty bind,ro")
    expect("/program" in mounted).toBe(left.length === 0)
  })

  it("keeps what it works in of the state directory writable, and nothing else of it", () => {
    const where = home(
      "state/trees/one-1/project",
      "state/trees/two-2",
      "state/clones/acme/tool.git",
      "state/instances/u",
    )
    const work = [
      "trees/one-1/project",
      "trees/one-1",
      "clones/acme/tool.git",
      "instances/u",
      "trees/none",
    ]
    expect(
      planned(
        where,
        {},
        work.map((path) => where.at(`state/${path}`)),
      ).own.toSorted(),
    ).toEqual(["clones/acme/tool.git", "trees/one-1"])
  })

  it("follows a link to what is guarded, and names links that an agent could lead elsewhere", () => {
    const where = home("real/config")
    symlinkSync("real", where.at("short"))
    symlinkSync(where.at("short/config"), where.at("settings"))
    const { mounted } = planned(where, { hidden: [where.at("settings")] })
    expect(mounted["/real/config"]).toBe("/state/view/empty bind,ro")
    expect(replaceableLinks(where.at("settings"))).toEqual([
      where.at("settings"),
      where.at("short"),
    ])
    expect(replaceableLinks(where.at("real/config"))).toEqual([])
    symlinkSync("circle", where.at("circle"))
    expect(replaceableLinks(where.at("circle/config")).length).toBeGreaterThan(0)
  })

  it("makes a mount that is there already read-only, and hides the same directory at another path", () => {
    const where = home("program", "config", "elsewhere/config")
    const mount = (point: string, root: string, options = "rw,nosuid"): Mount => ({
      device: "8:1",
      root,
      point,
      options: [options],
    })
    const mounts = [
      { device: "8:1", root: "/", point: "/", options: ["rw"] },
      mount(where.at("program"), "/srv/program"),
      mount(where.at("elsewhere"), where.path),
    ]
    const { mounted, remounts } = planned(
      where,
      { hidden: [where.at("config")], sealed: [where.at("program")] },
      [],
      mounts,
    )
    expect(remounts.filter(([, point]) => point.startsWith(where.path))).toEqual([
      ["remount,bind,ro", where.at("program")],
    ])
    expect(mounted["/elsewhere/config"]).toBe("/state/view/empty bind,ro")
    expect("/program" in mounted).toBe(false)
  })
})

describe("an installation", () => {
  const installation = (at: (name: string) => string) => ({
    ...{
      configDirectory: at("config/own"),
      programsDirectory: at("share"),
      compileCache: at("cache/compile"),
      launcher: undefined,
    },
    ...{
      node: process.execPath,
      main: at("program/dist/main.js"),
      home: at(""),
      runtimeDirectory: at("runtime"),
    },
  })

  it("is made where agents could make it, and then guarded; what it has not, nobody misses", () => {
    const where = home("program/dist/main.js", "runtime/bus")
    makeGuarded(installation(where.at))
    const { mounted } = planned(where, guard(installation(where.at)))
    expect(mounted).toMatchObject({
      "/config/own": "/state/view/empty bind,ro",
      "/share": expect.stringMatching(/^itself rbind,ro/),
      "/cache/compile": expect.stringMatching(/^itself rbind,ro/),
      "/program/dist": expect.stringMatching(/^itself rbind,ro/),
      "/runtime/bus": "/state/view/empty bind,ro",
    })
    expect("/program/node_modules" in mounted).toBe(false)
  })

  it("that cannot be made is no error", () => {
    const where = home("config.txt")
    const { at } = where
    expect(() =>
      makeGuarded({ ...installation(at), configDirectory: at("config.txt/own") }),
    ).not.toThrow()
    expect(
      planned(where, guard({ ...installation(at), configDirectory: at("config.txt/own") })).open,
    ).toEqual([])
  })
})

describe("the table of mounts", () => {
  /** Paths may have any characters but control characters. */
  const name = fc
    .string({ unit: "grapheme", minLength: 1, maxLength: 12 })
    .map((text) => text.replace(/[\p{Cc}/]/gu, "_"))
  const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => `/${names.join("/")}`)
  const line = (mount: Pick<Mount, "device" | "root" | "point">): string => {
    const [root = "", point = ""] = tableLine(mount.root, mount.point, "x").split(" ")
    return `36 35 ${mount.device} ${root} ${point} rw,nosuid shared:1 - ext4 /dev/root rw\n`
  }

  it("has one line of six fields for each, whatever is in its paths, and is read back as it was written", () => {
    fc.assert(
      fc.property(path, path, (root, point) => {
        expect(tableLine(root, point, "bind,ro")).toMatch(
          /^\/[^ \t\n]* \/[^ \t\n]* none bind,ro 0 0\n$/,
        )
        expect(parseMounts(line({ device: "8:1", root, point }))).toEqual([
          { device: "8:1", root, point, options: ["rw", "nosuid"] },
        ])
      }),
    )
  })

  it("knows every path of a directory, but none that something else is mounted over", () => {
    const one = (root: string, point: string, device = "8:1"): Mount => ({
      root,
      point,
      device,
      options: [],
    })
    const mounts = [
      one("/", "/"),
      one("/", "/sysroot"),
      one("/home", "/var/home"),
      one("/", "/mnt", "8:2"),
      one("/x", "/sysroot/home"),
    ]
    expect(otherPaths("/home/u/state", mounts)).toEqual(["/var/home/u/state"])
    expect(otherPaths("/var/home/u", mounts)).toEqual(["/home/u"])
    expect(otherPaths("/srv", mounts)).toEqual(["/sysroot/srv"])
    expect(otherPaths("/mnt/srv", mounts)).toEqual([])
  })
})
