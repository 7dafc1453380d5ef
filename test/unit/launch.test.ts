import { spawnSync } from "node:child_process"
import { chownSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, describe, expect, it, vi } from "vitest"
import { createDiskRetry } from "../../src/agent/disk-retry.ts"
import { startLoop } from "../../src/agent/launch.ts"
import { planView } from "../../src/host/agent-view.ts"
import { nothingGuarded } from "../../src/host/guarded.ts"
import { isolated, scratchOf } from "../../src/host/isolation.ts"
import { endProcesses } from "../../src/host/process-signals.ts"
import {
  find,
  identify,
  type ProcessMarker,
  processesOfRun,
  processId,
} from "../../src/host/processes.ts"
import { alone, aRun, everyOf, probed, temporary, until } from "./scratch.ts"

describe("a loop that cannot be started", () => {
  it.each<
    [
      string,
      string,
      (at: string) => { command?: string[]; directory?: string; claude?: string },
      RegExp,
    ]
  >([
    [
      "its directory is gone",
      "DirectoryMissing",
      (at) => ({ directory: `${at}/gone` }),
      /gone does not exist any more\. Restore it/,
    ],
    [
      "the loop is gone",
      "ProgramMissing",
      (at) => ({ command: [`${at}/loop.sh`] }),
      /loop\.sh \(the loop\) does not exist/,
    ],
    [
      "the loop is not executable",
      "NotExecutable",
      (at) => {
        writeFileSync(`${at}/loop.sh`, "", { mode: 0o644 })
        return { command: [`${at}/loop.sh`] }
      },
      /Run chmod \+x .*loop\.sh/,
    ],
  ])("says what to do when %s", (_, reason, made, words) => {
    const run = aRun(made(temporary()))
    const output = { openForLoop: () => -1, finish: async () => {} }
    const started = startLoop(
      run,
      createDiskRetry(run, () => {}),
      output,
      { port: 1, token: "t" },
      () => {},
      alone,
    )
    expect(started).toMatchObject({ reason, message: expect.stringMatching(words) })
    expect(run.get("loop")).toBeUndefined()
  })
})

describe("a loop in the strongest isolation that works here", () => {
  const markers: ProcessMarker[] = []
  afterEach(async () => {
    for (const marker of markers.splice(0)) await endProcesses(marker, new Set(), 0)
  })
  /** Runs a script as the loop; `ended` is its exit code, `said` its output so far. */
  const looped = async (script: string) => {
    const kind = (await probed(temporary())).kind
    const place = `p${process.pid}-${performance.now()}`
    const run = aRun({ command: ["bash", "-c", script], isolation: kind, place })
    const marker = processesOfRun("u-one", place)
    markers.push(marker)
    const file = openSync(`${run.path}/out`, "w")
    const output = { openForLoop: () => file, finish: async () => {} }
    const ended = Promise.withResolvers<number>()
    expect(
      startLoop(
        run,
        createDiskRetry(run, () => {}),
        output,
        { port: 1, token: "t" },
        ended.resolve,
        alone,
      ),
    ).toBeUndefined()
    return {
      kind,
      run,
      ended: ended.promise,
      pids: () => find(marker, new Set()).map(({ pid }) => pid),
      said: () => readFileSync(`${run.path}/out`, "utf8"),
      marker,
    }
  }

  it("ends with its own exit code, after what it left behind was told to end", async () => {
    const { kind, run, ended, said } = await looped(
      `echo began; setsid -f bash -c 'trap "echo told; exit" TERM; echo ready; while :; do sleep 0.01; done'; sleep 0.3; exit 7`,
    )
    expect(await ended).toBe(7)
    expect(run.get("ended")).toEqual({ code: 7 })
    // Without a namespace its supervisor tells them.
    expect(said().split("\n").includes("told")).toBe(kind !== "process tree")
  })

  it("is asked for by a process that sees another pid of its own than everybody else", async () => {
    const { said, pids, marker } = await looped(
      "read -r stat < /proc/self/stat; echo $stat; sleep 1000; :",
    )
    await until(() => said().includes("\n"))
    const fields = said().trim().split(" ")
    const self = { pid: Number(fields[0]), startTicks: Number(fields[21]) }
    const found = identify(self, everyOf(marker))
    expect(pids()).toContain(found?.pid)
    expect(processId(found?.pid ?? 0)).toEqual(found)
    expect(readFileSync(`/proc/${found?.pid}/comm`, "utf8")).toBe("bash\n")
    expect(identify({ ...self, startTicks: self.startTicks + 1 }, everyOf(marker))).toBeUndefined()
    expect(identify(self, everyOf(processesOfRun("u-one", "p2")))).toBeUndefined()
  })

  it("of an ordinary user has no rights in its namespace, cannot take the view away, and ssh still reads its configuration", () => {
    const uid = process.geteuid?.() || 33 // www-data: one that every system knows
    const stateDirectory = temporary()
    writeFileSync(join(stateDirectory, "token"), "secret")
    const script = [
      "id -u; grep CapEff /proc/self/status",
      `ls ${stateDirectory}; cat ${stateDirectory}/token`,
      `umount -l ${stateDirectory} || unshare --user --map-root-user --mount umount -l ${stateDirectory} || echo kept`,
      'for path in /etc/ssh/ssh_config.d/*; do test ! -e "$path" || stat -c "ssh %u" "$path"; done',
      "exit 9",
    ].join("; ")
    vi.spyOn(process, "geteuid").mockReturnValue(uid)
    const view = planView({
      stateDirectory,
      scratch: scratchOf(stateDirectory),
      guarded: nothingGuarded,
      work: [],
    })
    const options = { stateDirectory, directory: "/", graceSeconds: 0, view }
    const [program = "", ...args] = isolated(
      "pid and mount namespaces",
      ["sh", "-c", script],
      options,
    )
    vi.restoreAllMocks()
    const owned = readdirSync(stateDirectory).map((name) => join(stateDirectory, name))
    for (const path of [stateDirectory, ...owned]) chownSync(path, uid, uid)
    const as = { uid, gid: uid, encoding: "utf8" } as const
    const { status, stdout, stderr } = spawnSync(program, args, as)
    const allowed =
      spawnSync("unshare", ["--user", "--pid", "--fork", "--mount", "--mount-proc", "true"], as)
        .status === 0
    // Where a user may have no namespaces, nothing is run at all, and the probe has said so.
    if (!allowed) expect(stderr).toMatch(/unshare/)
    else {
      const [who, capabilities, ...rest] = stdout.trim().split("\n")
      expect({ who, capabilities }).toEqual({
        who: String(uid),
        capabilities: "CapEff:\t0000000000000000",
      })
      expect(rest.slice(0, 3)).toEqual(["clones", "trees", "kept"])
      expect(rest.slice(3).filter((line) => line !== `ssh ${uid}`)).toEqual([])
    }
    expect({ ran: stdout !== "", status: status === 9 }).toEqual({ ran: allowed, status: allowed })
  })

  it("is over, and all of it, when the first process of its namespace is killed", async () => {
    const { kind, ended, pids, said } = await looped(
      "env -i setsid -f sleep 1000; echo on; trap '' TERM; sleep 1000",
    )
    await until(() => said().includes("on"))
    const first = pids().find((pid) =>
      /^\/bin\/sh\0-c\0[^\0]*\0blackbox5-first\0/.test(
        readFileSync(`/proc/${pid}/cmdline`, "utf8"),
      ),
    )
    expect(first === undefined).toBe(kind === "process tree")
    for (const pid of first === undefined ? pids() : [first]) process.kill(pid, "SIGKILL")
    expect(await ended).toBeGreaterThan(0)
    await until(() => pids().length === 0)
  })
})
