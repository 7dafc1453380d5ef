import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, readlinkSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import { say, use } from "../model/model.ts"
import { ordinaryUser, people } from "./person.ts"
import { eventually, makeWorld, type World } from "./world.ts"

/**
 * What an agent can write must be neither executed nor believed by a process outside of its
 * namespaces. The agent tries it here, with all that its shell gives it.
 */

/** Each is a command of bash that succeeds where the agent gets what it must not have. */
interface Attempt {
  readonly what: string
  readonly command: string
}

function attemptsIn(
  world: World,
  { otherRun, config, tmuxSocket }: { otherRun: string; config: string; tmuxSocket: string },
) {
  const { state, main, directory } = world
  const checkout = join(main, "../..")
  const inNamespace = (command: string): string =>
    `unshare --user --map-root-user --mount bash -c '${command}'`
  const attempts: Attempt[] = [
    { what: "write the policy", command: `echo "turnsMax: 1" > ${config}/policy.yaml` },
    { what: "write the MCP servers", command: `echo "servers: {}" > ${config}/mcp-servers.yaml` },
    { what: "read the policy", command: `cat ${config}/policy.yaml` },
    {
      what: "move the configuration away",
      command: `mv ${config} ${config}.away && mv ${config}.away ${config}`,
    },
    {
      what: "move the state directory away",
      command: `mv ${directory}/a ${directory}/b && mv ${directory}/b ${directory}/a`,
    },
    { what: "write its claude", command: `echo "# mine" >> $bin/claude` },
    { what: "replace its claude", command: `cp $bin/claude $bin/new && mv $bin/new $bin/claude` },
    { what: "write another run's claude", command: `echo "# mine" >> ${otherRun}/bin/claude` },
    { what: "write its loop's parent", command: `echo "# mine" >> $bin/blackbox5-loop` },
    {
      what: "lead a tree that is still to be made elsewhere",
      command: `ln -s ${config} ${state}/trees/one-12345678`,
    },
    { what: "write the program", command: `echo "// mine" >> ${main}` },
    {
      what: "replace the program",
      command: `mv ${checkout}/dist ${checkout}/old && cp -r ${checkout}/old ${checkout}/dist`,
    },
    { what: "add a module", command: `mkdir ${checkout}/node_modules/mine` },
    { what: "say how its modules are read", command: `echo "{}" > ${checkout}/dist/package.json` },
    {
      what: "write what is compiled of the program",
      command: "touch ~/.cache/blackbox5/compile/mine",
    },
    { what: "move what is compiled away", command: "mv ~/.cache ~/.away && mv ~/.away ~/.cache" },
    { what: "unmount the view", command: `umount -l ${state}` },
    { what: "unmount the configuration", command: `umount -l ${config}` },
    { what: "unmount the program", command: `umount -l ${checkout}/dist` },
    { what: "make the view writable", command: `mount -o remount,bind,rw ${state}` },
    { what: "unmount it in namespaces of its own", command: inNamespace(`umount -l ${state}`) },
    {
      what: "look below it",
      command: inNamespace(`mount --bind ${directory} /mnt && cat /mnt/a/state/token`),
    },
    // What stands there is written again: nothing changes on the machine.
    {
      what: "set the core pattern",
      command: "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern",
    },
    {
      what: "set the helper for devices",
      command: "cat /sys/kernel/uevent_helper > /sys/kernel/uevent_helper",
    },
    {
      what: "open files by their handle",
      command: `(( 0x$(sed -n "s/^CapEff:\\t//p" /proc/self/status) & 0x4 ))`,
    },
    { what: "ask the person's tmux", command: `tmux -S ${tmuxSocket} list-sessions` },
  ]
  return attempts
}

describe.each(people)("the agent of the user $user, with $shell as /bin/sh", (person) => {
  it("gets at nothing that runs or is believed outside", async () => {
    let command = ""
    await using world = await makeWorld(
      ({ toolResults }) =>
        toolResults.length === 0
          ? use([{ name: "Bash", input: { command, timeout: 60_000 } }])
          : say("<promise>COMPLETE</promise>"),
      { person, under: "a" },
    )
    const { call } = await world.connect()
    const { isolation, warnings } = await call("fleet_status")
    if (isolation !== "pid and mount namespaces") {
      expect(String(warnings)).toContain("can change what Blackbox5 runs")
      return
    }
    const config = world.env.BLACKBOX5_CONFIG ?? ""
    const uidSchema = z.object({ uid: z.string() })
    command = "sleep 600"
    const other = uidSchema.parse(await call("spawn_instance", { project: "shop", name: "other" }))
    await eventually(
      () =>
        existsSync(join(world.runOf(other.uid), "bin/claude")) && world.model.requests.length > 0,
      "other",
    )

    // The person's own tmux, as it is found by who looks for it.
    const name = `bb5-view-${process.pid}-${person.user}-${person.shell}`
    const tmux = async (...args: readonly string[]) => world.run("tmux", ["-L", name, ...args])
    await tmux("new-session", "-d", "sleep 600")
    const tmuxSocket = (await tmux("display-message", "-p", "#{socket_path}")).stdout.trim()
    expect(existsSync(tmuxSocket)).toBe(true)
    try {
      const notes = join(world.directory, "notes")
      mkdirSync(notes)
      if (process.getuid?.() === 0 && person.user === "ordinary")
        execFileSync("chown", [ordinaryUser, notes])
      const proof = `readlink /proc/self/ns/pid >> ${notes}/proof`
      const attempts = attemptsIn(world, { otherRun: world.runOf(other.uid), config, tmuxSocket })
      const policyBefore = readFileSync(join(config, "policy.yaml"), "utf8")
      command = [
        'bin=$(dirname "$(command -v claude)")',
        ...attempts.map(
          ({ what, command }) =>
            `( ${command} ) > /dev/null 2>&1 && echo "${what}" >> ${notes}/worked`,
        ),
        // A shell that reads its script as it goes finds this where it goes on.
        `for i in {1..99}; do echo "${proof}"; done > $bin/blackbox5-loop`,
        `touch ${notes}/done`,
      ].join("\n")
      const { uid } = uidSchema.parse(
        await call("spawn_instance", { project: "shop", name: "one" }),
      )
      await eventually(
        async () => (await call("inspect_instance", { name: "one" })).phase === "Completed",
        "completed",
        60,
      )
      expect(existsSync(join(notes, "done"))).toBe(true)
      const worked = existsSync(join(notes, "worked"))
        ? readFileSync(join(notes, "worked"), "utf8").trim().split("\n")
        : []
      const namespaces = existsSync(join(notes, "proof"))
        ? readFileSync(join(notes, "proof"), "utf8").split("\n")
        : []
      expect({
        worked,
        ranOutside: namespaces.includes(readlinkSync("/proc/self/ns/pid")),
      }).toEqual({
        worked: [],
        ranOutside: false,
      })
      expect(readFileSync(join(config, "policy.yaml"), "utf8")).toBe(policyBefore)
      expect(existsSync(join(config, "mcp-servers.yaml"))).toBe(false)
      expect(existsSync(join(world.runOf(uid), "status/ended.json"))).toBe(true)
    } finally {
      await tmux("kill-server")
    }
  }, 240_000)
})
